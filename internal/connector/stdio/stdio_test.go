package stdio_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pg-tide/pg-tide/internal/connector/stdio"
	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/relay"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	_ relay.Sink   = (*stdio.Stdout)(nil)
	_ relay.Sink   = (*stdio.File)(nil)
	_ relay.Source = (*stdio.Stdin)(nil)
)

type values map[string]any

func (v values) String(name string) string { s, _ := v[name].(string); return s }

func (v values) Int(name string) int64 { i, _ := v[name].(int); return int64(i) }

func newFile(t testing.TB, path string) *stdio.File {
	t.Helper()
	file, err := stdio.NewFile(values{"path": path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close(context.Background()) })
	return file
}

func read(t testing.TB, path string) []message.Envelope {
	t.Helper()
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return envelopes(t, string(text))
}

func envelopes(t testing.TB, text string) []message.Envelope {
	t.Helper()
	var all []message.Envelope
	for line := range strings.Lines(text) {
		whole, ended := strings.CutSuffix(line, "\n")
		if !ended {
			t.Errorf("the line %q is torn", line)
		}
		all = append(all, message.Envelope{Body: []byte(whole)})
	}
	return all
}

func send(t testing.TB, sink relay.Sink, envelopes []message.Envelope) error {
	t.Helper()
	receipt, err := sink.Send(t.Context(), envelopes)
	if err != nil {
		return err
	}
	return receipt.Wait(t.Context())
}

func mustSend(t testing.TB, sink relay.Sink, envelopes []message.Envelope) {
	t.Helper()
	if err := send(t, sink, envelopes); err != nil {
		t.Fatal(err)
	}
}

func mustOpen(t testing.TB, sink relay.Sink) {
	t.Helper()
	if err := sink.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// stream is what stands behind a standard output.
type stream struct {
	hangs sync.Mutex // held while nobody reads
	mu    sync.Mutex
	text  bytes.Buffer
	limit int // bytes after which a write fails, once; 0 for none
}

func (s *stream) Write(p []byte) (int, error) {
	s.hangs.Lock()
	defer s.hangs.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.limit > 0 && s.text.Len()+len(p) > s.limit {
		n := s.limit - s.text.Len()
		s.limit = 0
		s.text.Write(p[:n])
		return n, io.ErrShortWrite
	}
	return s.text.Write(p)
}

func (s *stream) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// Pipelines share the output, and each writes whole lines; one that a failure
// tore is ended before the next.
func TestPipelinesShareTheStandardOutputByWholeLines(t *testing.T) {
	t.Parallel()
	to := &stream{limit: 105}
	output := stdio.NewOutput(to)
	first := stdio.NewStdout(output)
	mustOpen(t, first)
	var err error
	for err == nil {
		err = send(t, first, sinktest.Envelopes("stdout", 1, 3))
	}
	var all sync.WaitGroup
	for range 4 {
		sink := stdio.NewStdout(output)
		mustOpen(t, sink)
		all.Go(func() {
			for i := range 50 {
				mustSend(t, sink, sinktest.Envelopes("stdout", i, 20))
			}
		})
	}
	all.Wait()
	odd := 0
	for _, e := range envelopes(t, to.String()) {
		if !bytes.HasPrefix(e.Body, []byte(`{"n":`)) || !bytes.HasSuffix(e.Body, []byte("}")) {
			odd++
		}
	}
	if odd > 1 {
		t.Errorf("%d lines are no event's, and one was torn", odd)
	}
}

// A pipe that nobody reads does not keep the relay from ending.
func TestAnOutputThatHangsIsLeftWhenTheContextEnds(t *testing.T) {
	t.Parallel()
	from, to := io.Pipe()
	sink := stdio.NewStdout(stdio.NewOutput(to))
	mustOpen(t, sink)
	ctx, cancel := context.WithCancel(t.Context())
	sent := make(chan error)
	go func() {
		_, err := sink.Send(ctx, sinktest.Envelopes("stdout", 1, 3))
		sent <- err
	}()
	one := make([]byte, 1)
	if _, err := io.ReadFull(from, one); err != nil { // the write is under way
		t.Fatal(err)
	}
	cancel()
	if err := <-sent; !errors.Is(err, context.Canceled) {
		t.Errorf("send: %v", err)
	}
	_ = from.Close()
}

func TestATornLastLineIsMendedAndForeignTextIsKept(t *testing.T) {
	t.Parallel()
	whole := `{"specversion":"1.0","id":"1"}` + "\n"
	long := strings.Repeat("x", 200_000)
	for before, want := range map[string]string{
		"":                                    "",
		whole:                                 whole,
		whole + `{"specversion":"1.0","id":"`: whole,
		whole + `{"spec`:                      whole,
		whole + `{"specversion":"` + long:     whole,
		`{"specversion":"1.0","id":"2"}`:      "",
		whole + "\x00\x00\x00":                whole,
		"written by hand":                     "written by hand\n",
		long:                                  long + "\n",
	} {
		path := filepath.Join(t.TempDir(), "events.jsonl")
		if err := os.WriteFile(path, []byte(before), 0o600); err != nil {
			t.Fatal(err)
		}
		file := newFile(t, path)
		mustOpen(t, file)
		mustSend(t, file, sinktest.Envelopes("file", 7, 1))
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want+"{\"n\":7}\n" {
			t.Errorf("%.60q became %.120q, want %.60q and the event", before, got, want)
		}
	}
}

// Rotation moves the file away, or removes it: what comes then is in a new one.
func TestAFileThatWasMovedIsMadeAnew(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "events.jsonl")
	file := newFile(t, path)
	mustOpen(t, file)
	mustSend(t, file, sinktest.Envelopes("file", 1, 2))
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	mustSend(t, file, sinktest.Envelopes("file", 3, 2))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	mustSend(t, file, sinktest.Envelopes("file", 5, 1))
	if old, now := len(read(t, path+".1")), len(read(t, path)); old != 2 || now != 1 {
		t.Errorf("%d lines are in the old file and %d in the new one, want 2 and 1", old, now)
	}
}

func TestAFileHasOneWriter(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "events.jsonl")
	first, second := newFile(t, path), newFile(t, path)
	mustOpen(t, first)
	if err := second.Open(t.Context()); err == nil || !strings.Contains(err.Error(), "written to by another pipeline or relay") {
		t.Errorf("a second writer: %v", err)
	}
	if err := first.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, second)
}

func TestWhatIsWrongWithAFileIsSaidInWords(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	for path, words := range map[string]string{
		"events.jsonl": "must be an absolute path",
		"/etc/passwd":  "must end in .jsonl or .ndjson",
	} {
		file, err := stdio.NewFile(values{"path": path})
		if err == nil {
			err = file.Open(t.Context())
			_ = file.Close(t.Context())
		}
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v, want %q", path, err, words)
		}
	}
	if _, err := stdio.NewFile(values{"path": "/a.jsonl", "lanes": 2}); err == nil || !strings.Contains(err.Error(), "one writer") {
		t.Errorf("two lanes: %v", err)
	}
	err := newFile(t, filepath.Join(folder, "missing", "a.jsonl")).Open(t.Context())
	if verdict, _ := delivery.VerdictOf(err); verdict != delivery.VerdictMisconfigured || !strings.Contains(err.Error(), "make the folder") {
		t.Errorf("a missing folder: %v", err)
	}
	if err := os.Mkdir(filepath.Join(folder, "d.jsonl"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := newFile(t, filepath.Join(folder, "d.jsonl")).Open(t.Context()); err == nil {
		t.Error("a folder was written to")
	}
}

func TestTheEndOfTheInputIsSaidOnceAllIsAcknowledged(t *testing.T) {
	t.Parallel()
	input := stdio.NewInput(strings.NewReader("{\"a\":1}\n\n {\"specversion\":\"1.0\",\"id\":\"x\"}\n{\"last\":true}"))
	source := stdio.NewStdin(input, "p")
	if err := source.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	var got []message.Envelope
	var acknowledge []func(context.Context) error
	for len(got) < 3 {
		d, err := source.Fetch(t.Context(), 2)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, d.Envelopes...)
		acknowledge = append(acknowledge, d.Acknowledge)
	}
	if got[0].Header("content-type") != "" || got[1].Header("content-type") != "application/cloudevents+json" || string(got[2].Body) != `{"last":true}` {
		t.Errorf("read %+v", got)
	}
	ended := make(chan error)
	go func() {
		_, err := source.Fetch(t.Context(), 2)
		ended <- err
	}()
	for _, a := range acknowledge {
		select {
		case err := <-ended:
			t.Fatalf("the end was said before all was acknowledged: %v", err)
		default:
		}
		if err := a(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	err := <-ended
	if _, after := delivery.VerdictOf(err); after != time.Hour || !strings.Contains(err.Error(), "all of its 3 lines were taken in") {
		t.Errorf("at the end: %v after %s", err, after)
	}
}

func TestOnePipelineReadsTheStandardInput(t *testing.T) {
	t.Parallel()
	input := stdio.NewInput(strings.NewReader(""))
	first, second := stdio.NewStdin(input, "first"), stdio.NewStdin(input, "second")
	if err := first.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := second.Open(t.Context()); err == nil || !strings.Contains(err.Error(), `read by pipeline "first" already`) {
		t.Errorf("a second reader: %v", err)
	}
	if err := first.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := second.Open(t.Context()); err != nil {
		t.Errorf("after the first was closed: %v", err)
	}
}

// A session that ends lets go whoever waits for a line, and loses none.
func TestCloseEndsAFetchThatWaits(t *testing.T) {
	t.Parallel()
	from, to := io.Pipe()
	t.Cleanup(func() { _ = from.Close() })
	source := stdio.NewStdin(stdio.NewInput(from), "p")
	for i := range 3 {
		if err := source.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		fetched := make(chan error)
		go func() {
			_, err := source.Fetch(t.Context(), 10)
			fetched <- err
		}()
		if err := source.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := <-fetched; err == nil {
			t.Errorf("round %d: a fetch of a closed session returned a line", i)
		}
	}
	if err := source.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = to.Write([]byte("{}\n")) }()
	if d, err := source.Fetch(t.Context(), 10); err != nil || len(d.Envelopes) != 1 {
		t.Errorf("after that: %d lines, %v", len(d.Envelopes), err)
	}
}

// What a session read of a line before it ended is not lost to the next one.
func TestALineThatTheEndOfASessionCutShortComesWhole(t *testing.T) {
	t.Parallel()
	from, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = from.Close() })
	source := stdio.NewStdin(stdio.NewInput(from), "p")
	body := `{"long":"` + strings.Repeat("x", 1<<20) + `"}`
	for _, part := range []string{body[:1<<19], body[1<<19:] + "\n"} {
		if err := source.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		// The pipe holds less than that: most of it has been read by then.
		if _, err := to.WriteString(part); err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(part, "\n") {
			if err := source.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	d, err := source.Fetch(t.Context(), 10)
	if err != nil || len(d.Envelopes) != 1 || string(d.Envelopes[0].Body) != body {
		t.Fatalf("%d lines, %v", len(d.Envelopes), err)
	}
	if err := d.Acknowledge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := source.Fetch(t.Context(), 10); err == nil || !strings.Contains(err.Error(), "all of its 1 lines") {
		t.Errorf("at the end: %v", err)
	}
	if err := source.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}
