package stdio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
)

// Output is the standard output of the process, which its pipelines share.
type Output struct {
	to     io.Writer
	writer *writer
	// torn says that a write failed within a line. Only the writer touches it.
	torn bool
}

// NewOutput makes an output of a stream.
func NewOutput(to io.Writer) *Output { return &Output{to: to, writer: newWriter()} }

func (o *Output) write(ctx context.Context, text []byte) error {
	return o.writer.do(ctx, func() error {
		if o.torn {
			text = append([]byte("\n"), text...)
		}
		n, err := o.to.Write(text)
		if n > 0 {
			o.torn = text[n-1] != '\n'
		}
		if err != nil {
			return fmt.Errorf("write to standard output: %w", err)
		}
		return nil
	})
}

// Stdout writes to the standard output.
type Stdout struct {
	output *Output
	opened atomic.Bool
}

// NewStdout makes a sink that writes to the output.
func NewStdout(output *Output) *Stdout { return &Stdout{output: output} }

// Open begins a session.
func (s *Stdout) Open(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s.opened.Store(true)
	return nil
}

// Send writes the events, and returns when the stream has them.
func (s *Stdout) Send(ctx context.Context, envelopes []message.Envelope) (delivery.Receipt, error) {
	if !s.opened.Load() {
		return nil, errors.New("write to standard output before the sink was opened")
	}
	text, err := lines(envelopes)
	if err != nil {
		return nil, err
	}
	if err := s.output.write(ctx, text); err != nil {
		return nil, err
	}
	return written{}, nil
}

// Close ends the session and leaves the stream open.
func (s *Stdout) Close(context.Context) error {
	s.opened.Store(false)
	return nil
}
