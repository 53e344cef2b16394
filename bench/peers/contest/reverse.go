package contest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/pg-tide/pg-tide/bench/peers/insert"
	"github.com/pg-tide/pg-tide/bench/peers/river"
	"github.com/pg-tide/pg-tide/bench/peers/target"
	"github.com/pg-tide/pg-tide/internal/process"
	"github.com/pg-tide/pg-tide/schema"
)

// inbox is a way from a stream into PostgreSQL.
type inbox struct {
	name, version string
	slow          bool
	setUp         func(ctx context.Context, d *database, t target.Target) error
	start         func(ctx context.Context, t target.Target, log io.Writer) (*process.Process, error)
	// counted is how many rows there are.
	countSQL string
}

const riverVersion = "v0.51.2"

// inboxes are all contestants for the way in, ours first.
func inboxes(o Options) []inbox {
	byHand := func(ctx context.Context, d *database, _ target.Target) error { return d.run(ctx, insert.SetupSQL) }
	jobs := func(ctx context.Context, d *database, _ target.Target) error { return river.SetUp(ctx, d.dsn) }
	const countInbox, countJobs = "select count(*) from inbox", "select count(*) from river_job"
	return []inbox{
		{name: product, version: "this", setUp: setUpTideInbox, start: o.startTide, countSQL: "select count(*) from tide.orders_inbox"},
		{name: "River, InsertManyFast", version: riverVersion, setUp: jobs, start: o.loop("river-fast"), countSQL: countJobs},
		{name: "River, InsertMany of unique jobs", version: riverVersion, setUp: jobs, start: o.loop("river-many"), countSQL: countJobs},
		{name: "River, a unique job each", version: riverVersion, slow: true, setUp: jobs, start: o.loop("river-each"), countSQL: countJobs},
		{name: "insert each, sixteen workers", slow: true, setUp: byHand, start: o.loop("insert-16"), countSQL: countInbox},
		{name: "insert each, one worker", slow: true, setUp: byHand, start: o.loop("insert-1"), countSQL: countInbox},
	}
}

func chosenInboxes(all []inbox, only []string) []inbox {
	return slices.DeleteFunc(all, func(i inbox) bool { return !wanted(i.name, only) })
}

func setUpTideInbox(ctx context.Context, d *database, t target.Target) error {
	if err := schema.Install(ctx, d.conn); err != nil {
		return err
	}
	if _, err := d.conn.Exec(ctx, "select tide.inbox_create('orders')"); err != nil {
		return err
	}
	config, _ := json.Marshal(map[string]any{"source_type": "nats", "url": t.NATS, "stream": t.Stream, "subject": t.Subject, "durable_name": t.Durable}) // strings: it cannot fail
	_, err := d.conn.Exec(ctx, "select tide.relay_set_inbox('in', 'orders', $1::jsonb)", string(config))
	return err
}

// reverse has each contestant take messages of one stream, in turns. The
// first round warms up and is not counted.
func (p *place) reverse(ctx context.Context, ins []inbox, lines []*Line) (err error) {
	stream, t, err := p.stream(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.js.DeleteStream(context.WithoutCancel(ctx), t.Stream)) }()
	if err := p.fillStream(ctx, p.options.Events, p.options.Size); err != nil {
		return err
	}
	for round := range p.options.Rounds + 1 {
		for turn := range ins {
			i := (turn + round) % len(ins) // nobody always has the same neighbour
			if lines[i].failed != nil {
				continue
			}
			t.Durable = fmt.Sprintf("peers_%d_%d", round, i)
			rate, err := p.reverseOnce(ctx, &ins[i], stream, t, p.options.backlog(ins[i].slow, round))
			if err != nil {
				if err := p.failed(ctx, lines[i], err); err != nil {
					return err
				}
				continue
			}
			p.say("reverse, round %d of %d: %s, %.0f events/s", round, p.options.Rounds, ins[i].name, rate)
			if round > 0 {
				lines[i].Rates = append(lines[i].Rates, rate)
			}
		}
	}
	return nil
}

// reverseOnce is the rate from the first acknowledgement to the last one that
// is wanted. What is acknowledged must be in the table.
func (p *place) reverseOnce(ctx context.Context, in *inbox, stream jetstream.Stream, t target.Target, events int) (rate float64, err error) {
	d, err := p.database(ctx)
	if d != nil {
		defer func() { err = errors.Join(err, p.drop(ctx, d)) }()
	}
	if err != nil {
		return 0, err
	}
	t.Postgres = d.dsn
	if err := in.setUp(ctx, d, t); err != nil {
		return 0, fmt.Errorf("set up: %w", err)
	}
	if err := d.run(ctx, "checkpoint"); err != nil {
		return 0, err
	}
	running, err := p.start(ctx, func(ctx context.Context, log io.Writer) (*process.Process, error) { return in.start(ctx, t, log) })
	if err != nil {
		return 0, err
	}
	defer running.end()
	before, err := taken(ctx, running, stream, t.Durable, 1)
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	if _, err := taken(ctx, running, stream, t.Durable, events); err != nil {
		return 0, err
	}
	rate = since(events-before, begun)
	running.end()
	var rows int
	if err := d.conn.QueryRow(ctx, in.countSQL).Scan(&rows); err != nil {
		return 0, err
	}
	if rows < events {
		return 0, fmt.Errorf("it acknowledged %d messages and has %d", events, rows)
	}
	return rate, stream.DeleteConsumer(ctx, t.Durable)
}

// taken waits until a consumer has acknowledged a number of messages, and says
// how many it has then.
func taken(ctx context.Context, running *program, stream jetstream.Stream, durable string, want int) (acknowledged int, err error) {
	var consumer jetstream.Consumer
	err = until(ctx, func() (bool, error) {
		if consumer == nil {
			if consumer, err = stream.Consumer(ctx, durable); err != nil {
				consumer = nil
				return false, running.alive() // not made yet
			}
		}
		info, err := consumer.Info(ctx)
		if err != nil {
			return false, err
		}
		acknowledged = int(info.AckFloor.Stream)
		return acknowledged >= want, running.alive()
	})
	if err != nil {
		err = fmt.Errorf("%d of %d messages were acknowledged: %w; %s", acknowledged, want, err, running.tail())
	}
	return acknowledged, err
}

// fillStream publishes messages as the relay does.
func (p *place) fillStream(ctx context.Context, events, size int) error {
	body := []byte(`{"n": 1, "text": "` + strings.Repeat("x", max(0, size-20)) + `"}`)
	now := time.Now().UTC().Format(time.RFC3339Nano)
	for n := range events {
		id := nuid.Next()
		m := &natsgo.Msg{Subject: subject, Data: body, Header: natsgo.Header{
			jetstream.MsgIDHeader: {id}, "ce-specversion": {"1.0"}, "ce-id": {id},
			"ce-source": {"/00000000-0000-4000-8000-000000000000/orders"}, "ce-type": {"orders.insert"},
			"ce-time": {now}, "ce-subject": {strconv.Itoa(n % 1000)},
		}}
		if _, err := p.js.PublishMsgAsync(m); err != nil {
			return fmt.Errorf("fill the stream: %w", err)
		}
	}
	select {
	case <-p.js.PublishAsyncComplete():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
