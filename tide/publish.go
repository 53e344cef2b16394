package tide

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Querier is what a statement runs on: a pgx.Tx, *pgx.Conn, *pgxpool.Conn or
// *pgxpool.Pool, or what SQL returns. Only a transaction makes the event and the
// business change one.
type Querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// SQLQuerier is a *sql.Tx, *sql.Conn or *sql.DB.
type SQLQuerier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// SQL makes a Querier of a transaction or connection of database/sql, whatever
// its driver.
func SQL(q SQLQuerier) Querier { return sqlQuerier{q} }

type sqlQuerier struct{ of SQLQuerier }

func (s sqlQuerier) QueryRow(ctx context.Context, query string, args ...any) pgx.Row {
	return s.of.QueryRowContext(ctx, query, args...)
}

// Option changes how events are published.
type Option func(*options)

type options struct {
	headersFrom func(context.Context) map[string]string
}

// HeadersFrom adds headers that are taken from the context, for instance those
// that a propagator of OpenTelemetry writes: traceparent, tracestate, baggage.
// Without it the trace that WithTrace put into the context is sent along.
func HeadersFrom(from func(context.Context) map[string]string) Option {
	return func(o *options) { o.headersFrom = from }
}

func collect(all []Option) options {
	var o options
	for _, set := range all {
		set(&o)
	}
	return o
}

// Publish publishes an event by q, which is meant to be the transaction of the
// business change, and returns the event id.
func Publish(ctx context.Context, q Querier, outbox string, e Event, opts ...Option) (id string, err error) {
	r, err := e.row(ctx, outbox, collect(opts))
	if err != nil {
		return "", err
	}
	if err := q.QueryRow(ctx, publishSQL, outbox, r.stream, r.payload, r.headers, r.key, r.op, r.id).Scan(&id); err != nil {
		return "", explained(fmt.Sprintf("publish to outbox %q", outbox), err)
	}
	return id, nil
}

// PublishMany publishes events in their order and in one round trip, all or
// none, and returns their event ids in that order.
func PublishMany(ctx context.Context, q Querier, outbox string, events []Event, opts ...Option) (ids []string, err error) {
	if len(events) == 0 {
		return nil, nil
	}
	o := collect(opts)
	var streams, payloads, headers, keys, ops, given array
	for i, e := range events {
		r, err := e.row(ctx, outbox, o)
		if err != nil {
			return nil, fmt.Errorf("event %d of %d: %w", i+1, len(events), err)
		}
		streams.add(r.stream)
		payloads.add(r.payload)
		headers.add(r.headers)
		keys.add(r.key)
		ops.add(r.op)
		given.add(r.id)
	}
	var joined string
	err = q.QueryRow(ctx, publishManySQL, outbox, payloads.literal(), streams.orNone(), headers.orNone(), keys.orNone(), ops.orNone(), given.orNone()).Scan(&joined)
	if err != nil {
		return nil, explained(fmt.Sprintf("publish %d events to outbox %q", len(events), outbox), err)
	}
	return strings.Split(joined, ","), nil
}

// Publisher publishes payloads of one Go type as events of one event type.
type Publisher[T any] struct {
	// Outbox is where the events leave from.
	Outbox string
	// Type is the event type, Stream and Op are as in Event.
	Type, Stream, Op string
	// Key, when set, gives each event its key.
	Key func(T) string
	// ID, when set, gives each event its event id, a UUID.
	ID func(T) string
	// Options are those of each call.
	Options []Option
}

// Publish publishes payloads in their order and in one round trip, all or none,
// and returns their event ids.
func (p Publisher[T]) Publish(ctx context.Context, q Querier, payloads ...T) (ids []string, err error) {
	events := make([]Event, 0, len(payloads))
	for _, payload := range payloads {
		e := Event{Type: p.Type, Payload: payload, Stream: p.Stream, Op: p.Op}
		if p.Key != nil {
			e.Key = p.Key(payload)
		}
		if p.ID != nil {
			e.ID = p.ID(payload)
		}
		events = append(events, e)
	}
	if len(events) == 1 {
		id, err := Publish(ctx, q, p.Outbox, events[0], p.Options...)
		if err != nil {
			return nil, err
		}
		return []string{id}, nil
	}
	return PublishMany(ctx, q, p.Outbox, events, p.Options...)
}

// array is a PostgreSQL array in text form, which any driver can send.
type array struct {
	text strings.Builder
	some bool
}

var inArray = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

func (a *array) add(element *string) {
	if a.text.Len() > 0 {
		a.text.WriteByte(',')
	}
	if element == nil {
		a.text.WriteString("NULL")
		return
	}
	a.some = true
	a.text.WriteByte('"')
	_, _ = inArray.WriteString(&a.text, *element) // a Builder has no errors
	a.text.WriteByte('"')
}

func (a *array) literal() string { return "{" + a.text.String() + "}" }

// orNone is null when every element is.
func (a *array) orNone() *string {
	if !a.some {
		return nil
	}
	literal := a.literal()
	return &literal
}

// explained adds PostgreSQL's hint, which its error leaves out.
func explained(doing string, err error) error {
	if e := new(pgconn.PgError); errors.As(err, &e) && e.Hint != "" {
		return fmt.Errorf("%s: %w; %s", doing, err, e.Hint)
	}
	return fmt.Errorf("%s: %w", doing, err)
}
