package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pg-tide/pg-tide/internal/fault"
	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
)

// ackWaitSeconds is when the broker gives to others what a dead relay had. It
// is longer than the next one takes to begin.
const ackWaitSeconds = 8

// walk is one database with an outbox, an inbox and a pipeline of each
// direction between them, and relays that die. It takes every path that an
// event can: in pages, late, as a dead letter, through a stop and a hand-over.
type walk struct {
	service *service
	broker  *broker
	// url is where the relays find the broker; the broker's own, or a proxy's.
	url    string
	prefix string
	plan   []death
	mutant fault.Mutation
	// loses says that not everything will arrive.
	loses bool
	lives *lives
	// published counts the events of each key.
	published map[string]int
}

func newWalk(t *testing.T, broker *broker, prefix string, plan []death) *walk {
	t.Helper()
	return newWalkIn(t, schematest.Database(t, pgtest.Newest), broker, prefix, plan)
}

// newWalkIn makes a walk in a database that has the schema.
func newWalkIn(t *testing.T, dsn string, broker *broker, prefix string, plan []death) *walk {
	t.Helper()
	w := &walk{service: &service{dsn: dsn, typed: pgtest.Conn(t, dsn), pool: pgtest.Pool(t, dsn)},
		broker: broker, url: broker.URL(), prefix: prefix, plan: plan, published: map[string]int{}}
	w.service.execute(t, `select tide.outbox_create('walk'), tide.inbox_create('walk')`)
	w.configure(t, true)
	return w
}

// configure sets both pipelines. While they are picky, an event whose payload
// says so is refused by the one it names.
func (w *walk) configure(t *testing.T, picky bool) {
	t.Helper()
	set := func(sql, picks string, config map[string]any) {
		config["url"], config["batch_size"], config["on_error"] = w.url, 7, "park_key"
		if picky {
			config["transform"] = map[string]any{"language": "cel", "filter": fmt.Sprintf("!has(payload.%s) || payload.%[1]s > 0", picks)}
		}
		text, err := json.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		w.service.execute(t, sql, text)
	}
	set(`select tide.relay_set_outbox('out', 'walk', $1::jsonb)`, "forward",
		map[string]any{"sink_type": "nats", "subject_template": w.prefix + ".{stream}"})
	set(`select tide.relay_set_inbox('in', 'walk', $1::jsonb)`, "reverse",
		map[string]any{"source_type": "nats", "subject": w.prefix + ".>", "ack_wait_secs": ackWaitSeconds})
}

// burySQL makes the dead relay's last heartbeat old, once none can be under way
// any more. A session of it that waits for a lock sends none.
const burySQL = `
	with gone as (
		select not exists (
			select from pg_stat_activity a
			where a.datname = current_database() and a.application_name = 'pg-tide'
				and a.wait_event_type is distinct from 'Lock') as gone
	),
	aged as (
		update tide.relay_instance i
		set heartbeat_at = i.heartbeat_at - interval '1 minute'
		from gone g
		where g.gone
	)
	select gone from gone`

// live starts the first relay.
func (w *walk) live(t *testing.T) {
	t.Helper()
	w.lives = &lives{binary: breakableBinary(t), dsn: w.service.dsn, plan: w.plan, mutant: w.mutant, bury: func() (bool, error) {
		var buried bool
		err := w.service.pool.QueryRow(t.Context(), burySQL).Scan(&buried)
		return buried, err
	}}
	startLives(t, w.lives)
}

// publish publishes the events from..to of a key, two in each transaction.
func (w *walk) publish(t *testing.T, key string, from, to int) {
	t.Helper()
	for n := from; n <= to; n += 2 {
		tx := w.begin(t)
		w.publishIn(t, tx, key, n, min(n+1, to), "")
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// begin begins a transaction, which goes with the test if it is not ended before.
func (w *walk) begin(t *testing.T) pgx.Tx {
	t.Helper()
	tx, err := w.service.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }) // it may be over
	return tx
}

// publishIn publishes in a transaction; refusedBy names who will refuse them.
func (w *walk) publishIn(t *testing.T, tx pgx.Tx, key string, from, to int, refusedBy string) {
	t.Helper()
	const sql = `select tide.outbox_publish('walk', 'walk',
		jsonb_build_object('n', n) || case when $4 = '' then '{}' else jsonb_build_object($4, 'x') end, key => $1)
		from generate_series($2::int, $3::int) n`
	if _, err := tx.Exec(t.Context(), sql, key, from, to, refusedBy); err != nil {
		t.Fatal(err)
	}
	w.published[key] = to
}

// run takes the walk while relays die.
func (w *walk) run(t *testing.T) {
	late := w.begin(t)
	w.publishIn(t, late, "late", 1, 20, "")
	w.live(t)
	for _, key := range []string{"a", "b", "c"} {
		w.publish(t, key, 1, 10)
	}
	w.await(t, 30, "a", "b", "c")
	// More late events than a page holds: a round of its own.
	if err := late.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.await(t, 20, "late")
	w.poison(t)
	w.publish(t, "a", 11, 30)
	w.lives.signal(t, syscall.SIGTERM)
	w.await(t, 30, "a")
	w.handOver(t)
	// Those that die while they end are asked to end until all have.
	for left := w.lives.left(); len(left) > 0 && strings.HasPrefix(string(left[0].point), "shutdown."); left = w.lives.left() {
		w.lives.signal(t, syscall.SIGTERM)
		if len(w.lives.left()) == len(left) {
			t.Fatalf("a relay ended without passing %s", left[0])
		}
		w.publish(t, "b", w.published["b"]+1, w.published["b"]+4)
		w.await(t, w.published["b"], "b")
	}
	w.stop(t)
}

// poison makes dead letters at both pipelines, mends what refused them and
// has them tried again.
func (w *walk) poison(t *testing.T) {
	t.Helper()
	for key, direction := range map[string]string{"p": "forward", "q": "reverse"} {
		tx := w.begin(t)
		w.publishIn(t, tx, key, 1, 1, "")
		w.publishIn(t, tx, key, 2, 2, direction)
		w.publishIn(t, tx, key, 3, 3, "")
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	w.await(t, 2, "p", "q")
	for _, pipeline := range []string{"out", "in"} {
		eventually(t, func() (bool, string) {
			w.lives.fine(t)
			got := w.letters(t, pipeline)
			return got >= 2, fmt.Sprintf("%d letters of %s, want 2", got, pipeline)
		})
	}
	w.configure(t, false)
	for _, pipeline := range []string{"out", "in"} {
		w.retry(t, pipeline)
	}
	w.await(t, 6, "p", "q")
	for _, pipeline := range []string{"out", "in"} {
		eventually(t, func() (bool, string) {
			w.lives.fine(t)
			got := w.letters(t, pipeline)
			// Who died may have left some that came after the retry was asked for.
			if one[bool](t, w.service, `select exists (
				select from tide.dead_letter d
				join tide.pipeline p on p.id = d.pipeline_id
				where p.name = $1 and d.retry_requested_at is null)`, pipeline) {
				w.retry(t, pipeline)
			}
			return got == 0, fmt.Sprintf("%d letters of %s are left", got, pipeline)
		})
	}
}

func (w *walk) retry(t *testing.T, pipeline string) {
	t.Helper()
	w.service.execute(t, `select tide.dead_letter_retry($1, array(select id from tide.dead_letters where pipeline = $1))`, pipeline)
}

func (w *walk) letters(t *testing.T, pipeline string) int {
	t.Helper()
	return one[int](t, w.service, `select count(*) from tide.dead_letters where pipeline = $1`, pipeline)
}

// handOver lets the relay give up its pipelines and take them again.
func (w *walk) handOver(t *testing.T) {
	t.Helper()
	for range 2 {
		// The relay that has just begun may own nothing yet, and would give up nothing.
		eventually(t, func() (bool, string) {
			w.lives.fine(t)
			return one[bool](t, w.service, `select count(*) = 2
				from tide.pipeline_owner o
				join tide.relay_instance i on i.id = o.relay_id
				where i.heartbeat_at > clock_timestamp() - interval '8 seconds'`), "both pipelines are taken"
		})
		w.service.execute(t, `select tide.relay_disable('out'), tide.relay_disable('in')`)
		eventually(t, func() (bool, string) {
			w.lives.fine(t)
			// Of a relay that died nobody claims what is disabled.
			return one[bool](t, w.service, `select not exists (
				select from tide.pipeline_owner o
				join tide.relay_instance i on i.id = o.relay_id
				where i.heartbeat_at > clock_timestamp() - interval '8 seconds')`), "both pipelines are given up"
		})
		w.service.execute(t, `select tide.relay_enable('out'), tide.relay_enable('in')`)
		w.publish(t, "c", w.published["c"]+1, w.published["c"]+10)
		w.await(t, w.published["c"], "c")
	}
}

// stop ends the last relay softly.
func (w *walk) stop(t *testing.T) {
	t.Helper()
	w.settled(t)
	w.lives.finish(syscall.SIGTERM)
	<-w.lives.done
	w.lives.fine(t)
}

// settled waits until both pipelines have nothing left to do.
func (w *walk) settled(t *testing.T) {
	t.Helper()
	eventually(t, func() (bool, string) {
		w.lives.fine(t)
		status := one[string](t, w.service, `select tide.outbox_status('walk')::text`)
		consumers := w.consumer(t)
		return one[bool](t, w.service, `select tide.outbox_status('walk') #>> '{pipelines,0,pending}' = '0'`) &&
			consumers.NumPending == 0 && consumers.NumAckPending == 0, fmt.Sprintf("all is delivered and acknowledged: %s, %+v", status, consumers)
	})
}

func (w *walk) consumer(t *testing.T) *jetstream.ConsumerInfo {
	t.Helper()
	js := w.broker.server.JetStream(t)
	stream, err := js.Stream(t.Context(), w.streamName(t, js))
	if err != nil {
		t.Fatal(err)
	}
	for info := range stream.ListConsumers(t.Context()).Info() {
		return info
	}
	t.Fatalf("the stream of %s has no consumer", w.prefix)
	return nil
}

func (w *walk) streamName(t *testing.T, js jetstream.JetStream) string {
	t.Helper()
	names := js.StreamNames(t.Context(), jetstream.WithStreamListSubject(w.prefix+".walk"))
	for name := range names.Name() {
		return name
	}
	t.Fatalf("%s has no stream: %v", w.prefix, names.Err())
	return ""
}

// await waits until the inbox has that many events of these keys.
func (w *walk) await(t *testing.T, n int, keys ...string) {
	t.Helper()
	eventually(t, func() (bool, string) {
		w.lives.fine(t)
		got := one[int](t, w.service, `select count(*) from tide."walk_inbox" where key = any($1)`, keys)
		return got >= n, fmt.Sprintf("%d events of %v, want %d", got, keys, n)
	})
}

// check compares what was published with what lies in the stream and in the inbox.
func (w *walk) check(t *testing.T) {
	t.Helper()
	if left := w.lives.left(); len(left) > 0 {
		t.Errorf("the walk never passed %v", left)
	}
	for _, finding := range w.findings(t) {
		t.Error(finding)
	}
}
