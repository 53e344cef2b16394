package tide

import "context"

const (
	headerTraceparent = "traceparent"
	headerTracestate  = "tracestate"
)

type traceKey struct{}

type trace struct{ parent, state string }

// WithTrace puts a W3C trace context into ctx: events that are published with
// it carry the headers traceparent and tracestate. A worker does this for its
// handlers, so that what they publish belongs to the trace of the message.
func WithTrace(ctx context.Context, traceparent, tracestate string) context.Context {
	return context.WithValue(ctx, traceKey{}, trace{traceparent, tracestate})
}

// Trace returns what WithTrace put into ctx; empty when nothing did.
func Trace(ctx context.Context) (traceparent, tracestate string) {
	t, _ := ctx.Value(traceKey{}).(trace)
	return t.parent, t.state
}
