package stdio_test

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/pg-tide/pg-tide/internal/connector/stdio"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/relay"
	"github.com/pg-tide/pg-tide/internal/testkit/conformance"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
	"github.com/pg-tide/pg-tide/internal/testkit/sourcetest"
)

// Why there is none of something.
const (
	noLogin   = "nobody logs in to it"
	noTLS     = "it has no TLS"
	noBinding = "CloudEvents has no binding for lines; each is an event in its JSON format"
)

// common is what lines lack, whichever way they go.
func common(nothingBehind, noWire string) conformance.Lacks {
	return conformance.Lacks{
		conformance.Headers:       "a line is one structured CloudEvent, headers included",
		conformance.EventID:       "the event id is within the line",
		conformance.BinaryBodies:  "a line break ends a line",
		conformance.CloudEvents:   noBinding,
		conformance.Restart:       nothingBehind,
		conformance.Kill:          nothingBehind,
		conformance.Cut:           noWire,
		conformance.Unreachable:   noWire,
		conformance.WrongLogin:    noLogin,
		conformance.NoPermission:  noLogin,
		conformance.WrongName:     noTLS,
		conformance.UnknownIssuer: noTLS,
	}
}

// writtenTo is what sinks lack besides.
func writtenTo(l conformance.Lacks, noWire string) conformance.Lacks {
	l[conformance.Connection] = noWire
	l[conformance.Deduplication] = "it is written to and not read: who reads it knows repeats by their id"
	l[conformance.Lose] = "it is written to and not read"
	l[conformance.SizeLimit] = "a line may have any length"
	l[conformance.Destinations] = "all events go to one place"
	return l
}

func TestFileConformance(t *testing.T) {
	t.Parallel()
	const nothingBehind, noWire = "no server stands behind a file", "a file is on the relay's own machine"
	lacks := writtenTo(common(nothingBehind, noWire), noWire)
	lacks[conformance.Freeze] = "a disk that hangs is that of the relay's own machine"
	delete(lacks, conformance.NoPermission)
	sinktest.Run(t, sinktest.Features{Technology: "file", Lacks: lacks}, func(t *testing.T) sinktest.Harness {
		path := filepath.Join(t.TempDir(), "events.jsonl")
		return sinktest.Harness{
			New:         func(t testing.TB) relay.Sink { return newFile(t, path) },
			Stored:      func(t testing.TB) []message.Envelope { return read(t, path) },
			Destination: "file",
			Poison:      func(e *message.Envelope) { e.Body = []byte("two\nlines") },
			Wrong: map[conformance.Need]func(t testing.TB) sinktest.Refusal{
				conformance.NoDestination: func(t testing.TB) sinktest.Refusal {
					folder := filepath.Join(t.TempDir(), "missing")
					return sinktest.Refusal{End: newFile(t, filepath.Join(folder, "a.jsonl")), Says: []string{"no such file", "make the folder " + folder}}
				},
				conformance.NoPermission: func(t testing.TB) sinktest.Refusal {
					return sinktest.Refusal{End: newFile(t, forbidden(t)), Says: []string{"permission denied", "the relay's user must be able to write there"}}
				},
			},
		}
	})
}

// forbidden is a path where a file may not be made, whoever asks.
func forbidden(t testing.TB) string {
	t.Helper()
	if os.Getuid() == 0 {
		return "/sys/events.jsonl" // the kernel's own folder refuses root as well
	}
	folder := filepath.Join(t.TempDir(), "forbidden")
	if err := os.Mkdir(folder, 0o500); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(folder, "events.jsonl")
}

const (
	streamOfProcess = "a standard stream begins and ends with the relay's process"
	streamNoWire    = "a standard stream is the process's own"
)

func TestStdoutConformance(t *testing.T) {
	t.Parallel()
	lacks := writtenTo(common(streamOfProcess, streamNoWire), streamNoWire)
	lacks[conformance.NoDestination] = "a process always has a standard output"
	sinktest.Run(t, sinktest.Features{Technology: "stdout", Lacks: lacks}, func(*testing.T) sinktest.Harness {
		to := &stream{}
		output := stdio.NewOutput(to)
		return sinktest.Harness{
			New:         func(testing.TB) relay.Sink { return stdio.NewStdout(output) },
			Stored:      func(t testing.TB) []message.Envelope { return envelopes(t, to.String()) },
			Destination: "stdout",
			Poison:      func(e *message.Envelope) { e.Body = []byte("two\nlines") },
			Freeze: func(testing.TB) (thaw func()) { // as a pipe that nobody reads
				to.hangs.Lock()
				return to.hangs.Unlock
			},
		}
	})
}

func TestStdinConformance(t *testing.T) {
	t.Parallel()
	lacks := common(streamOfProcess, streamNoWire)
	lacks[conformance.NoDestination] = "a process always has a standard input"
	lacks[conformance.Freeze] = "a writer that hangs is one that has nothing to say"
	lacks[conformance.EmptyBodies] = "an empty line is no event"
	lacks[conformance.UnacknowledgedLimit] = "what is read is kept until it is acknowledged, since it cannot be read again; the relay takes one batch at a time"
	sourcetest.Run(t, sourcetest.Features{Technology: "stdin", Lacks: lacks}, func(t *testing.T) sourcetest.Harness {
		from, to, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		input := stdio.NewInput(from)
		var publishing sync.WaitGroup
		t.Cleanup(publishing.Wait)
		t.Cleanup(func() { _ = from.Close() })
		t.Cleanup(func() { _ = to.Close() })
		last := make(chan struct{})
		close(last)
		return sourcetest.Harness{
			New: func(testing.TB) relay.Source { return stdio.NewStdin(input, "p") },
			Publish: func(_ testing.TB, envelopes []message.Envelope) {
				before, done := last, make(chan struct{})
				last = done
				publishing.Go(func() {
					defer close(done)
					<-before
					for i := range envelopes {
						line := append(bytes.Clone(envelopes[i].Body), '\n')
						if _, err := to.Write(line); err != nil {
							return // the test has ended
						}
					}
				})
			},
			Crash:       func(t testing.TB, source relay.Source) { _ = source.Close(t.Context()) },
			Destination: "stdin",
		}
	})
}
