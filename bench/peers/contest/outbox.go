package contest

import (
	"context"
	_ "embed" // the statements
	"encoding/json"
	"fmt"
	"io"
	"strings"

	natsgo "github.com/nats-io/nats.go"

	"github.com/pg-tide/pg-tide/bench/peers/debezium"
	"github.com/pg-tide/pg-tide/bench/peers/decoding"
	"github.com/pg-tide/pg-tide/bench/peers/notify"
	"github.com/pg-tide/pg-tide/bench/peers/skiplocked"
	"github.com/pg-tide/pg-tide/bench/peers/target"
	"github.com/pg-tide/pg-tide/bench/peers/watermill"
	"github.com/pg-tide/pg-tide/internal/process"
	"github.com/pg-tide/pg-tide/schema"
)

var (
	//go:embed queries/shim.sql
	shimSQL string
	//go:embed queries/tide_fill.sql
	tideFillSQL string
	//go:embed queries/tide_publish.sql
	tidePublishSQL string
)

// product is the name of ours among the contestants.
const product = "pg_tide"

// outbox is a way out of PostgreSQL: a peer's, or ours.
type outbox struct {
	name, version string
	// slow ones get a smaller backlog: rates are compared, not times.
	slow bool
	// setUp makes its tables; slot is the logical slot that it reads.
	setUp func(ctx context.Context, d *database) error
	slot  string
	// fillSQL and publishSQL write many events, and one.
	fillSQL, publishSQL string
	// oneSQL makes the function by which the torture's writers publish; empty
	// where they find ours.
	oneSQL string
	start  func(ctx context.Context, t target.Target, log io.Writer) (*process.Process, error)
	// idOf is the event's id in a message.
	idOf func(natsgo.Header) string
}

// outboxes are all contestants for the way out, ours first.
func outboxes(o Options, server *debezium.Server) []outbox {
	tables := func(sql string) func(ctx context.Context, d *database) error {
		return func(ctx context.Context, d *database) error { return d.run(ctx, sql) }
	}
	all := []outbox{
		{name: product, version: "this", setUp: setUpTide, fillSQL: tideFillSQL, publishSQL: tidePublishSQL, start: o.startTide, idOf: messageID},
		{name: "logical decoding by pglogrepl", version: "v0.0.0-20251213150135-2e8d0df862c1", setUp: tables(decoding.SetupSQL), slot: decoding.Slot,
			fillSQL: decoding.FillSQL, publishSQL: decoding.PublishSQL, oneSQL: decoding.OneSQL, start: o.loop("decoding"), idOf: messageID},
		{name: "skip locked, one worker", setUp: tables(skiplocked.SetupSQL),
			fillSQL: skiplocked.FillSQL, publishSQL: skiplocked.PublishSQL, oneSQL: skiplocked.OneSQL, start: o.loop("skiplocked-1"), idOf: messageID},
		{name: "skip locked, four workers", setUp: tables(skiplocked.SetupSQL),
			fillSQL: skiplocked.FillSQL, publishSQL: skiplocked.PublishSQL, oneSQL: skiplocked.OneSQL, start: o.loop("skiplocked-4"), idOf: messageID},
		{name: "id > last, notified of each", setUp: tables(notify.SetupSQL),
			fillSQL: notify.FillSQL, publishSQL: notify.PublishSQL, oneSQL: notify.OneSQL, start: o.loop("notify"), idOf: messageID},
		{name: "Watermill's forwarder", version: "v1.5.1", slow: true, setUp: setUpWatermill,
			fillSQL: watermill.FillSQL, publishSQL: watermill.PublishSQL, oneSQL: watermill.OneSQL, start: o.loop("watermill"), idOf: messageID},
	}
	if server != nil {
		all = append(all, outbox{name: "Debezium Server", version: debezium.Version, setUp: tables(debezium.SetupSQL), slot: debezium.Slot,
			fillSQL: debezium.FillSQL, publishSQL: debezium.PublishSQL, oneSQL: debezium.OneSQL,
			start: func(ctx context.Context, t target.Target, log io.Writer) (*process.Process, error) {
				return server.Start(ctx, t, log)
			},
			idOf: func(h natsgo.Header) string { return strings.Trim(first(h, "id"), `"`) }})
	}
	return all
}

func messageID(h natsgo.Header) string { return first(h, natsgo.MsgIdHdr) }

// first does without the search for other spellings that Header.Get makes.
func first(h natsgo.Header, name string) string {
	if values := h[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// loop starts one of the loops written in Go in a process of its own.
func (o Options) loop(name string) func(ctx context.Context, t target.Target, log io.Writer) (*process.Process, error) {
	return func(ctx context.Context, t target.Target, log io.Writer) (*process.Process, error) {
		return process.Start(ctx, process.Options{Program: o.Self, Arguments: []string{"loop", name},
			Environment: []string{t.Environment()}, Output: log})
	}
}

// startTide runs the relay, as a user would.
func (o Options) startTide(ctx context.Context, t target.Target, log io.Writer) (*process.Process, error) {
	return process.Start(ctx, process.Options{Program: o.Program, Arguments: []string{"run"}, Output: log,
		Environment: []string{"PG_TIDE_POSTGRES_URL=" + t.Postgres, "PG_TIDE_HTTP_ADDR=127.0.0.1:0", "PG_TIDE_LOG_FORMAT=text"}})
}

func setUpTide(ctx context.Context, d *database) error {
	if err := schema.Install(ctx, d.conn); err != nil {
		return err
	}
	_, err := d.conn.Exec(ctx, "select tide.outbox_create('orders')")
	return err
}

func setUpWatermill(ctx context.Context, d *database) error {
	if err := watermill.SetUp(ctx, d.dsn); err != nil {
		return err
	}
	return d.run(ctx, watermill.SetupSQL)
}

// ready is a database with a contestant's outbox in it.
func (p *place) ready(ctx context.Context, o *outbox) (*database, error) {
	d, err := p.database(ctx)
	if err != nil {
		return nil, err
	}
	if err := o.setUp(ctx, d); err != nil {
		return d, fmt.Errorf("set up: %w", err)
	}
	if o.slot == "" {
		return d, nil
	}
	_, err = d.conn.Exec(ctx, "select pg_create_logical_replication_slot($1, 'pgoutput')", o.slot)
	return d, err
}

// configure tells what only the database can be told: our pipeline.
func (o *outbox) configure(ctx context.Context, d *database, t target.Target) error {
	if o.name != product {
		return nil
	}
	config, _ := json.Marshal(map[string]any{"sink_type": "nats", "url": t.NATS, "stream": t.Stream, "subject": t.Subject}) // strings: it cannot fail
	_, err := d.conn.Exec(ctx, "select tide.relay_set_outbox('out', 'orders', $1::jsonb)", string(config))
	return err
}
