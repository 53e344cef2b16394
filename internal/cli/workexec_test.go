package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pg-tide/pg-tide/tide"
)

func TestAProgramSeesItsMessageAndWhatItStartedEndsWithIt(t *testing.T) {
	m := &tide.Message{Inbox: "i", ID: 7, EventID: "e7", Type: "order.created", Stream: "orders", Key: "k", Op: "insert",
		Payload: json.RawMessage(`{"n": 1}`), Attempts: 2}
	var out, said bytes.Buffer
	each := &eachMessage{command: `cat; echo; echo $PG_TIDE_EVENT_TYPE $PG_TIDE_ATTEMPTS`, whole: true, out: &out, err: &said}
	if err := each.run(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	var seen struct {
		EventID string `json:"event_id"`
		Payload struct{ N int }
		Headers map[string]any
	}
	whole, rest, _ := strings.Cut(out.String(), "\n")
	if err := json.Unmarshal([]byte(whole), &seen); err != nil || seen.EventID != "e7" || seen.Payload.N != 1 || seen.Headers == nil {
		t.Errorf("it saw %s: %v", whole, err)
	}
	if rest != "order.created 2\n" {
		t.Errorf("its environment: %q", rest)
	}

	// A child that holds the output open would be waited for if it lived on.
	ctx, cancel := context.WithCancel(t.Context())
	started := &signalled{started: make(chan struct{})}
	ended := make(chan error, 1)
	go func() {
		ended <- (&eachMessage{command: `sleep 600 & echo up >&2; wait`, out: &out, err: &said}).runTo(ctx, m, started)
	}()
	select {
	case <-started.started:
	case <-time.After(20 * time.Second):
		t.Fatal("it does not begin")
	}
	cancel()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) && !strings.Contains(err.Error(), "signal") {
			t.Errorf("it ended by %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it goes on")
	}
}

func TestOfWhatAProgramWritesTheEndIsKept(t *testing.T) {
	m := &tide.Message{ID: 7, EventID: "e7"}
	var out, said bytes.Buffer
	each := &eachMessage{command: `head -c 10000000 /dev/zero | tr '\0' x; echo the end; (head -c 10000000 /dev/zero | tr '\0' y; echo the reason) >&2; exit 1`, out: &out, err: &said}
	err := each.run(t.Context(), m)
	if err == nil || !strings.HasSuffix(err.Error(), "yythe reason") {
		t.Errorf("it failed by %v", err)
	}
	for what, written := range map[string]string{"the end\n": out.String(), "the reason\n": said.String()} {
		before := fmt.Sprintf("[%d bytes before this are not shown]\n", 10_000_000+len(what)-shownOfOutput)
		if !strings.HasPrefix(written, before) || !strings.HasSuffix(written, what) || len(written) != len(before)+shownOfOutput {
			t.Errorf("%d bytes are shown, of which the first are %.60q, want %q and the end", len(written), written, before)
		}
	}
}

// Bytes that come one by one cost no more than at once.
func TestATailOfManyWritesIsTheEnd(t *testing.T) {
	kept := &tail{most: 5}
	for n := range 1000 {
		_, _ = kept.Write([]byte{'a' + byte(n%10)})
		if len(kept.kept) > 10 {
			t.Fatalf("%d bytes are kept", len(kept.kept))
		}
	}
	if got := string(kept.shown()); got != "[995 bytes before this are not shown]\nfghij" {
		t.Errorf("got %q", got)
	}
}

func TestHeadersTooLongForTheEnvironmentAreLeftOutAndNamed(t *testing.T) {
	for _, length := range []int{mostVariable - len("PG_TIDE_HEADERS=") - 1, mostVariable - len("PG_TIDE_HEADERS="), 1 << 20} {
		m := &tide.Message{ID: 7, EventID: "e7", Headers: json.RawMessage(strings.Repeat("1", length))}
		var out, said bytes.Buffer
		each := &eachMessage{command: `printf '%s %s' ${#PG_TIDE_HEADERS} "$PG_TIDE_LEFT_OUT"`, out: &out, err: &said}
		if err := each.run(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		want := "0 PG_TIDE_HEADERS"
		if length+len("PG_TIDE_HEADERS=") < mostVariable {
			want = fmt.Sprint(length, " ")
		}
		if out.String() != want || strings.Contains(want, "HEADERS") != strings.Contains(said.String(), "PG_TIDE_HEADERS, which was left out") {
			t.Errorf("headers of %d bytes: the program saw %q, and it was said %q", length, out.String(), said.String())
		}
	}
}

// signalled tells when something was written.
type signalled struct {
	started chan struct{}
	said    bool
}

func (s *signalled) Write(b []byte) (int, error) {
	if !s.said {
		close(s.started)
	}
	s.said = true
	return len(b), nil
}
