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
	// linesAhead are read before they are asked for.
	linesAhead = 1000
	// endedPause is how long a pipeline rests whose input has ended.
	endedPause = time.Hour
)

// Input is the standard input of the process. It is read once, by one pipeline
// at a time, and keeps what was read and not acknowledged: it cannot be read again.
type Input struct {
	from io.Reader
	// run tells the lines of this process from those of others.
	run   string
	start sync.Once
	lines chan message.Envelope
	// err is why reading ended, once lines is closed; nil at the end of the input.
	err error

	mu      sync.Mutex
	reader  *Stdin
	name    string
	pending []message.Envelope
	// first is the number of the first pending line; settled is closed when
	// some were acknowledged.
	first   uint64
	settled chan struct{}
}

// NewInput makes an input of a stream. It reads nothing before a source is opened.
func NewInput(from io.Reader) *Input {
	return &Input{from: from, run: rand.Text(), lines: make(chan message.Envelope, linesAhead), settled: make(chan struct{})}
}

// read puts the lines of the stream into the channel, to its end. It waits
// in the system, where nothing can interrupt it, and ends with the process.
func (in *Input) read() {
	defer close(in.lines)
	reader := bufio.NewReaderSize(in.from, 64<<10)
	for number := 1; ; number++ {
		line, err := readLine(reader)
		if text := bytes.TrimSpace(line); len(text) > 0 {
			in.lines <- in.envelope(text, number)
		}
		switch {
		case errors.Is(err, io.EOF):
			return
		case err != nil:
			in.err = fmt.Errorf("line %d of standard input: %w", number, err)
			return
		}
	}
}

func readLine(reader *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := reader.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > longestLine:
			return nil, fmt.Errorf("it is longer than %d MiB", longestLine>>20)
		case !errors.Is(err, bufio.ErrBufferFull):
			return line, err
		}
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

// claim gives the input to one source, and starts to read.
func (in *Input) claim(by *Stdin) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.reader != nil && in.reader != by {
		return delivery.Misconfigured(fmt.Errorf("standard input is read by pipeline %q already; only one pipeline of a relay can read it", in.name))
	}
	in.reader, in.name = by, by.pipeline
	in.start.Do(func() { go in.read() })
	return nil
}

func (in *Input) release(by *Stdin) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.reader == by {
		in.reader = nil
	}
}

// Stdin is a source that reads the standard input, a message a line.
type Stdin struct {
	input    *Input
	pipeline string

	mu sync.Mutex
	// open is closed at the end of the session; nil before the first.
	open chan struct{}
	// next is the number of the line that is delivered next.
	next uint64
}

// errNotOpen is what Fetch returns without a session.
var errNotOpen = errors.New("read standard input before the source was opened")

// NewStdin makes the source of a pipeline.
func NewStdin(input *Input, pipeline string) *Stdin { return &Stdin{input: input, pipeline: pipeline} }

// Open begins a session: what was delivered and not acknowledged comes again, first.
func (s *Stdin) Open(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := s.Close(ctx); err != nil {
		return err
	}
	if err := s.input.claim(s); err != nil {
		return err
	}
	s.input.mu.Lock()
	first := s.input.first
	s.input.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open, s.next = make(chan struct{}), first
	return nil
}

// Close ends the session and keeps what was not acknowledged.
func (s *Stdin) Close(context.Context) error {
	s.mu.Lock()
	if s.open != nil {
		close(s.open)
		s.open = nil
	}
	s.mu.Unlock()
	s.input.release(s)
	return nil
}

// Fetch returns the next lines. At the end of the input it waits until all of
// it is acknowledged, and then says that there is no more.
func (s *Stdin) Fetch(ctx context.Context, limit int) (message.Delivery, error) {
	s.mu.Lock()
	open, next := s.open, s.next
	s.mu.Unlock()
	if open == nil {
		return message.Delivery{}, errNotOpen
	}
	if envelopes := s.input.again(next, limit); len(envelopes) > 0 {
		return s.deliver(envelopes), nil
	}
	select {
	case <-ctx.Done():
		return message.Delivery{}, context.Cause(ctx)
	case <-open:
		return message.Delivery{}, errNotOpen
	case line, more := <-s.input.lines:
		if !more {
			return message.Delivery{}, s.input.end(ctx, open)
		}
		envelopes := []message.Envelope{line}
		for len(envelopes) < limit {
			select {
			case line, more := <-s.input.lines:
				if more {
					envelopes = append(envelopes, line)
					continue
				}
			default:
			}
			break
		}
		s.input.keep(envelopes)
		return s.deliver(envelopes), nil
	}
}

func (s *Stdin) deliver(envelopes []message.Envelope) message.Delivery {
	s.mu.Lock()
	s.next += uint64(len(envelopes))
	until := s.next
	s.mu.Unlock()
	return message.Delivery{Envelopes: envelopes, Acknowledge: func(context.Context) error {
		s.input.acknowledge(until)
		return nil
	}}
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

func (in *Input) keep(envelopes []message.Envelope) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.pending = append(in.pending, envelopes...)
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
