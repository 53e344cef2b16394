package clients

import (
	"context"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/pg-tide/pg-tide/tide"
)

// Inject is for tide.HeadersFrom: events carry the span of their publisher.
func Inject(p propagation.TextMapPropagator) func(context.Context) map[string]string {
	return func(ctx context.Context) map[string]string {
		carrier := propagation.MapCarrier{}
		p.Inject(ctx, carrier)
		return carrier
	}
}

// Spans is middleware that handles each message in a span, whose parent is the
// publisher's.
func Spans(tracer trace.Tracer, p propagation.TextMapPropagator) tide.Middleware {
	return func(next tide.Handler) tide.Handler {
		return func(ctx context.Context, m *tide.Message) error {
			carrier := propagation.MapCarrier{}
			for _, field := range p.Fields() {
				carrier[field] = m.Header(field)
			}
			ctx, span := tracer.Start(p.Extract(ctx, carrier), "process "+m.Inbox, trace.WithSpanKind(trace.SpanKindConsumer))
			defer span.End()
			err := next(ctx, m)
			if err != nil {
				span.RecordError(err)
				span.SetStatus(codes.Error, err.Error())
			}
			return err
		}
	}
}
