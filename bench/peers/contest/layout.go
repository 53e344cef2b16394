package contest

import (
	"context"
	_ "embed" // the statements
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pg-tide/pg-tide/bench/peers/debezium"
	"github.com/pg-tide/pg-tide/bench/peers/target"
	"github.com/pg-tide/pg-tide/internal/process"
)

// The same rows for either outbox.
var (
	//go:embed queries/layout_rows.sql
	layoutRowsSQL string
	//go:embed queries/layout_debezium.sql
	layoutDebeziumSQL string
	//go:embed queries/layout_tide.sql
	layoutTideSQL string
	// what of the rows did not arrive in an inbox as it was published
	//go:embed queries/layout_wrong.sql
	layoutWrongSQL string
)

// firstPatience is how long the first message may take: a virtual machine has
// to start.
const firstPatience = 90 * time.Second

// letter is one message as a reader of the stream sees it.
type letter struct {
	Headers map[string]string
	Body    string
}

// Layout publishes the same rows to Debezium Server, whose outbox event router
// puts the columns into headers, and to a pipeline of ours with the wire format
// "debezium", and compares what arrives, message by message. A pipeline into an
// inbox reads Debezium's messages too. It fails when something differs.
func Layout(ctx context.Context, o Options, out io.Writer) (err error) {
	p, err := open(ctx, o)
	if p != nil {
		defer func() { err = errors.Join(err, p.close(ctx)) }()
	}
	if err != nil {
		return err
	}
	server, err := p.debezium(ctx)
	if err != nil {
		return err
	}
	server = server.With(debezium.Placement)
	theirs, err := p.letters(ctx, &outbox{name: "Debezium Server", slot: debezium.Slot,
		setUp: func(ctx context.Context, d *database) error { return d.run(ctx, debezium.SetupSQL) },
		start: func(ctx context.Context, t target.Target, log io.Writer) (*process.Process, error) {
			return server.Start(ctx, t, log)
		}}, layoutDebeziumSQL, nil, func(ctx context.Context, t target.Target) error { return p.takeIn(ctx, out, t) })
	if err != nil {
		return fmt.Errorf("debezium server: %w", err)
	}
	ours, err := p.letters(ctx, &outbox{name: product, setUp: setUpTide, start: o.startTide}, layoutTideSQL,
		map[string]any{"wire_format": "debezium"}, nil)
	if err != nil {
		return fmt.Errorf("pg_tide: %w", err)
	}
	return compareLetters(out, theirs, ours)
}

// letters are the messages that a contestant makes of the rows, by event id.
func (p *place) letters(ctx context.Context, o *outbox, insertSQL string, more map[string]any,
	after func(ctx context.Context, t target.Target) error) (got map[string]letter, err error) {
	d, err := p.ready(ctx, o)
	if d != nil {
		defer func() { err = errors.Join(err, p.drop(ctx, d)) }()
	}
	if err != nil {
		return nil, err
	}
	stream, t, err := p.stream(ctx, d)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.js.DeleteStream(context.WithoutCancel(ctx), t.Stream)) }()
	config := map[string]any{"sink_type": "nats", "url": t.NATS, "stream": t.Stream, "subject": t.Subject}
	maps.Copy(config, more)
	text, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	if o.name == product {
		if _, err := d.conn.Exec(ctx, "select tide.relay_set_outbox('out', 'orders', $1::jsonb)", string(text)); err != nil {
			return nil, err
		}
	}
	for _, sql := range []string{layoutRowsSQL, insertSQL} {
		if err := d.run(ctx, sql); err != nil {
			return nil, err
		}
	}
	var rows int
	if err := d.conn.QueryRow(ctx, "select count(*) from layout").Scan(&rows); err != nil {
		return nil, err
	}
	running, err := p.start(ctx, o.starter(t))
	if err != nil {
		return nil, err
	}
	defer running.end()
	if got, err = p.collect(ctx, running, stream, rows); err != nil || after == nil {
		return got, err
	}
	return got, after(ctx, t)
}

// takeIn reads a stream into an inbox, whose pipeline has no wire format set.
func (p *place) takeIn(ctx context.Context, out io.Writer, t target.Target) (err error) {
	d, err := p.ready(ctx, &outbox{setUp: setUpTide})
	if d != nil {
		defer func() { err = errors.Join(err, p.drop(ctx, d)) }()
	}
	if err != nil {
		return err
	}
	config, err := json.Marshal(map[string]any{"source_type": "nats", "url": t.NATS, "stream": t.Stream, "subject": t.Subject})
	if err != nil {
		return err
	}
	if err := d.run(ctx, layoutRowsSQL); err != nil {
		return err
	}
	if _, err := d.conn.Exec(ctx, "select tide.inbox_create('arrived')"); err != nil {
		return err
	}
	if _, err := d.conn.Exec(ctx, "select tide.relay_set_inbox('in', 'arrived', $1::jsonb)", string(config)); err != nil {
		return err
	}
	t.Postgres = d.dsn
	running, err := p.start(ctx, (&outbox{start: p.options.startTide}).starter(t))
	if err != nil {
		return err
	}
	defer running.end()
	err = until(ctx, func() (all bool, err error) {
		err = d.conn.QueryRow(ctx, "select count(*) >= (select count(*) from layout) from tide.arrived_inbox").Scan(&all)
		return all, errors.Join(err, running.alive())
	})
	if err != nil {
		return fmt.Errorf("read Debezium's messages into an inbox: %w", err)
	}
	var wrong []string
	if err := d.conn.QueryRow(ctx, layoutWrongSQL).Scan(&wrong); err != nil {
		return err
	}
	if len(wrong) > 0 {
		return fmt.Errorf("in the inbox differ from what was published: %v", wrong)
	}
	fmt.Fprintln(out, "an inbox has every message of Debezium's as it was published")
	return nil
}

func (p *place) collect(ctx context.Context, running *program, stream jetstream.Stream, rows int) (map[string]letter, error) {
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return nil, err
	}
	got := map[string]letter{}
	for len(got) < rows {
		m, err := consumer.Next(jetstream.FetchMaxWait(firstPatience))
		if err != nil {
			return nil, fmt.Errorf("after %d of %d messages: %w: %s", len(got), rows, err, running.tail())
		}
		one := letter{Headers: map[string]string{}, Body: string(m.Data())}
		for name, values := range m.Headers() {
			one.Headers[name] = unquote(values[0])
		}
		// The transport's own, by which it removes duplicates: Debezium has none.
		delete(one.Headers, "Nats-Msg-Id")
		// And its engine tells about itself.
		maps.DeleteFunc(one.Headers, func(name, _ string) bool { return strings.HasPrefix(name, "__debezium.") })
		got[one.Headers["id"]] = one
	}
	return got, nil
}

// unquote takes off what Debezium's JSON format of headers puts around a text.
func unquote(value string) string {
	var text string
	if json.Unmarshal([]byte(value), &text) == nil {
		return text
	}
	return value
}

func compareLetters(out io.Writer, theirs, ours map[string]letter) error {
	differ := 0
	for _, id := range slices.Sorted(maps.Keys(theirs)) {
		t, o := theirs[id], ours[id]
		if maps.Equal(t.Headers, o.Headers) && t.Body == o.Body {
			fmt.Fprintf(out, "%s  the same: %d headers, %d bytes\n", id, len(t.Headers), len(t.Body))
			continue
		}
		differ++
		fmt.Fprintf(out, "%s  Debezium: %v %s\n%36s  pg_tide:  %v %s\n", id, t.Headers, t.Body, "", o.Headers, o.Body)
	}
	if differ > 0 || len(theirs) != len(ours) {
		return fmt.Errorf("of %d messages %d differ; pg_tide made %d", len(theirs), differ, len(ours))
	}
	return nil
}
