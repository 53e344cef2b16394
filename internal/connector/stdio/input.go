package stdio

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
)

const (
	// longestLine bounds a line, in bytes.
	longestLine = 64 << 20
	// linesAhead and bytesAhead bound what is read before it is asked for.
	linesAhead = 1000
	bytesAhead = 8 << 20
	// endedPause is how long a pipeline rests whose input has ended.
	endedPause = time.Hour
)

// Input is the standard input of the process. It is read once, by one pipeline
// at a time, and keeps what was read and not acknowledged: it cannot be read again.
type Input struct {
	from io.Reader
	// run tells the lines of this process from those of others.
	run string
	// buffer, begun, the line that a session's end cut short, and number, that
	// of the last line, belong to the goroutine that reads.
	buffer *bufio.Reader
	begun  []byte
	number int
	// arrived is signalled when there is something to take, or no more to
	// come; room when something was taken.
	arrived, room chan struct{}

	mu      sync.Mutex
	reader  *Stdin
	name    string
	reading *reading
	// ahead are the lines that were read and not delivered yet.
	ahead      []message.Envelope
	aheadBytes int
	// ended says that there is no more to read, and err why; nil at the end of the input.
	ended bool
	err   error
	// pending are the lines that were delivered and not acknowledged.
	pending []message.Envelope
	// first is the number of the first pending line; settled is closed when
	// some were acknowledged.
	first   uint64
	settled chan struct{}
}

// reading is one run of the goroutine that reads.
type reading struct {
	stop, done chan struct{}
	end        sync.Once
}

// interruptible is a stream on which a read that waits can be ended, and
// another begun after that.
type interruptible interface {
	io.Reader
	// Interrupt makes the read that waits, or the next one, fail with errInterrupted.
	Interrupt()
	// Resume takes an interruption back when nobody reads.
	Resume()
}

var errInterrupted = errors.New("the session has ended")

// NewInput makes an input of a stream. It reads nothing before a source is opened.
func NewInput(from io.Reader) *Input {
	from = withInterrupts(from)
	return &Input{
		from: from, run: rand.Text(), buffer: bufio.NewReaderSize(from, 64<<10),
		arrived: make(chan struct{}, 1), room: make(chan struct{}, 1), settled: make(chan struct{}),
	}
}

// read reads lines ahead, to the end of the stream or of the session.
func (in *Input) read(r *reading) {
	defer close(r.done)
	for {
		line, err := in.line()
		if errors.Is(err, errInterrupted) {
			return
		}
		in.number++
		if text := bytes.TrimSpace(line); len(text) > 0 {
			in.put(in.envelope(text, in.number))
		}
		switch {
		case errors.Is(err, io.EOF):
			in.finish(nil)
			return
		case err != nil:
			in.finish(fmt.Errorf("line %d of standard input: %w", in.number, err))
			return
		}
		if !in.hasRoom(r.stop) {
			return
		}
	}
}

// line reads to the end of a line. What a session's end leaves of one waits
// for the next session.
func (in *Input) line() ([]byte, error) {
	for {
		part, err := in.buffer.ReadSlice('\n')
		in.begun = append(in.begun, part...)
		switch {
		case errors.Is(err, errInterrupted):
			return nil, err
		case len(in.begun) > longestLine:
			in.begun = nil
			return nil, fmt.Errorf("it is longer than %d MiB", longestLine>>20)
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		}
		line := in.begun
		in.begun = nil
		return line, err
	}
}

func (in *Input) put(e message.Envelope) {
	in.mu.Lock()
	in.ahead = append(in.ahead, e)
	in.aheadBytes += len(e.Body)
	in.mu.Unlock()
	signal(in.arrived)
}

func (in *Input) finish(err error) {
	in.mu.Lock()
	in.ended, in.err = true, err
	in.mu.Unlock()
	signal(in.arrived)
}

// hasRoom waits until more may be read; it is false when the session ends first.
func (in *Input) hasRoom(stop <-chan struct{}) bool {
	for {
		in.mu.Lock()
		full := len(in.ahead) >= linesAhead || in.aheadBytes >= bytesAhead
		in.mu.Unlock()
		if !full {
			return true
		}
		select {
		case <-in.room:
		case <-stop:
			return false
		}
	}
}

// take delivers lines that nobody had yet; ended says that there are no more.
func (in *Input) take(limit int) (envelopes []message.Envelope, ended bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	n := min(limit, len(in.ahead))
	if n == 0 {
		return nil, in.ended
	}
	envelopes = append(envelopes, in.ahead[:n]...)
	in.ahead = append([]message.Envelope(nil), in.ahead[n:]...)
	for i := range envelopes {
		in.aheadBytes -= len(envelopes[i].Body)
	}
	in.pending = append(in.pending, envelopes...)
	signal(in.room)
	return envelopes, false
}

// signal tells whoever waits now or next.
func signal(to chan struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}

// envelope is a line as a transport would carry it: a CloudEvent when it says
// that it is one, else a payload.
func (in *Input) envelope(line []byte, number int) message.Envelope {
	e := message.Envelope{
		Destination: "stdin",
		Body:        line,
		Time:        time.Now(),
		Coordinates: fmt.Sprintf("stdin:%s:%d", in.run, number),
	}
	var says struct {
		SpecVersion string `json:"specversion"`
	}
	if json.Unmarshal(line, &says) == nil && says.SpecVersion != "" {
		e.Headers = []message.Header{{Name: "content-type", Value: "application/cloudevents+json"}}
	}
	return e
}

// claim gives the input to one source, and reads on.
func (in *Input) claim(by *Stdin) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.reader != nil && in.reader != by {
		return delivery.Misconfigured(fmt.Errorf("standard input is read by pipeline %q already; only one pipeline of a relay can read it", in.name))
	}
	in.reader, in.name = by, by.pipeline
	if in.reading == nil && !in.ended {
		in.reading = &reading{stop: make(chan struct{}), done: make(chan struct{})}
		go in.read(in.reading)
	}
	return nil
}

// release takes the input from a source, and ends the goroutine that reads,
// where that is possible. Where it is not, it goes on, reads ahead as far as
// it may, and ends with the process.
func (in *Input) release(by *Stdin) {
	in.mu.Lock()
	r, mine := in.reading, in.reader == by
	in.mu.Unlock()
	if !mine {
		return
	}
	stream, can := in.from.(interruptible)
	if r != nil && can {
		r.end.Do(func() {
			close(r.stop)
			stream.Interrupt()
			<-r.done
			stream.Resume()
		})
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	// Not before: another pipeline would read beside that goroutine.
	if in.reader == by && in.reading == r {
		in.reader = nil
		if can {
			in.reading = nil
		}
	}
}

// again returns lines from number next on that were delivered in an earlier session.
func (in *Input) again(next uint64, limit int) []message.Envelope {
	in.mu.Lock()
	defer in.mu.Unlock()
	from := next - in.first
	if next < in.first || from >= uint64(len(in.pending)) {
		return nil
	}
	rest := in.pending[from:]
	return append([]message.Envelope(nil), rest[:min(limit, len(rest))]...)
}

// acknowledge forgets the lines before number until.
func (in *Input) acknowledge(until uint64) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if until <= in.first {
		return
	}
	in.pending = append([]message.Envelope(nil), in.pending[until-in.first:]...)
	in.first = until
	close(in.settled)
	in.settled = make(chan struct{})
}

// end waits until all lines are acknowledged and says why there are no more.
func (in *Input) end(ctx context.Context, session <-chan struct{}) error {
	for {
		in.mu.Lock()
		left, done, settled := len(in.pending), in.first, in.settled
		in.mu.Unlock()
		if left == 0 {
			if in.err != nil {
				return delivery.RetryAfter(in.err, endedPause)
			}
			return delivery.RetryAfter(fmt.Errorf("standard input has ended; all of its %d lines were taken in", done), endedPause)
		}
		select {
		case <-settled:
		case <-session:
			return errNotOpen
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
