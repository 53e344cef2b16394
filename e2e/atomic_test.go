package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pg-tide/pg-tide/internal/fault"
	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
)

// An atomic pipeline's relay dies in the midst of sending, before and after the
// broker's answer and the save, while transactions overlap. Whoever looks at the
// stream at any moment finds whole transactions only, each once, and what one
// session did after another in that order.
func TestATransactionIsOneWriteOfTheStreamWhereverTheRelayDies(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	dsn := schematest.Database(t, pgtest.Newest)
	service := &service{dsn: dsn, typed: pgtest.Conn(t, dsn), pool: pgtest.Pool(t, dsn)}
	service.execute(t, `select tide.outbox_create('orders')`)
	service.execute(t, `select tide.relay_set_outbox('orders-to-nats', 'orders', jsonb_build_object(
		'sink_type', 'nats', 'url', $1::text, 'subject', 'orders.{op}', 'batch_size', 7, 'atomic', true))`, broker.URL())

	lives := &lives{binary: breakableBinary(t), dsn: dsn,
		plan: []death{
			{fault.ForwardAmidSend, 2}, {fault.ForwardBeforeReceipt, 2}, {fault.ForwardAmidReceipt, 2},
			{fault.ForwardAfterReceipt, 2}, {fault.ForwardBeforeSave, 2}, {fault.ForwardAfterSave, 2}, {fault.ForwardAfterRead, 3},
		},
		bury: func() (bool, error) {
			var buried bool
			err := service.pool.QueryRow(t.Context(), burySQL).Scan(&buried)
			return buried, err
		}}
	startLives(t, lives)
	writer := &overlapping{service: service, random: rand.New(rand.NewPCG(1, 2)), sizes: map[int]int{}}
	// Where the stream's end rests lies between transactions.
	js := broker.server.JetStream(t)
	var ends []uint64
	for len(lives.left()) > 0 || len(writer.sizes) < 80 {
		writer.write(t)
		eventually(t, func() (bool, string) { // not far ahead of the relays
			lives.fine(t)
			return one[int64](t, service, `select coalesce((tide.outbox_status('orders') #>> '{pipelines,0,pending}')::bigint, 0)`) < 60,
				fmt.Sprintf("the relays get on; %v are left", lives.left())
		})
		if end, there := restingEnd(t, js); there {
			ends = append(ends, end)
		}
	}
	eventually(t, func() (bool, string) {
		lives.fine(t)
		status := one[string](t, service, `select tide.outbox_status('orders')::text`)
		return one[bool](t, service, `select tide.outbox_status('orders') #>> '{pipelines,0,pending}' = '0'`), status
	})
	lives.finish(syscall.SIGTERM)
	<-lives.done
	lives.fine(t)
	writer.compare(t, inTheStream(t, js), ends)
}

// overlapping publishes transactions of which up to three are open at once.
type overlapping struct {
	service *service
	random  *rand.Rand
	open    []openTransaction
	// sizes are those of transactions that committed, by number.
	sizes map[int]int
	count int
}

type openTransaction struct {
	tx        pgx.Tx
	number, n int
}

// write publishes a little in each of the open transactions and ends one.
func (o *overlapping) write(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	for len(o.open) < 3 {
		tx, err := o.service.pool.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }) // most are over
		o.count++
		o.open = append(o.open, openTransaction{tx: tx, number: o.count})
	}
	for i := range o.open {
		for range 1 + o.random.IntN(3) {
			one := &o.open[i]
			one.n++
			if _, err := one.tx.Exec(ctx, `select tide.outbox_publish('orders', jsonb_build_object('t', $1::int, 'n', $2::int))`, one.number, one.n); err != nil {
				t.Fatal(err)
			}
		}
	}
	at := o.random.IntN(len(o.open))
	ended := o.open[at]
	o.open = slices.Delete(o.open, at, at+1)
	if err := ended.tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	o.sizes[ended.number] = ended.n
}

// stamp is which event of which transaction a message is.
type stamp struct{ T, N int }

func streamEnd(t *testing.T, js jetstream.JetStream) (uint64, bool) {
	t.Helper()
	stream, err := js.Stream(t.Context(), "tide-orders")
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return 0, false
	}
	if err != nil {
		t.Fatal(err)
	}
	return stream.CachedInfo().State.LastSeq, true
}

// restingEnd is an end that two looks agree on: the server counts the messages
// of a batch one by one while it stores them, and says so to who asks meanwhile.
// Where a relay died within a transaction that is not one write, the end rests
// until another relay goes on.
func restingEnd(t *testing.T, js jetstream.JetStream) (uint64, bool) {
	t.Helper()
	end, there := streamEnd(t, js)
	for {
		again, still := streamEnd(t, js)
		if again == end && still == there {
			return end, there
		}
		end, there = again, still
	}
}

func inTheStream(t *testing.T, js jetstream.JetStream) []stamp {
	t.Helper()
	consumer, err := js.OrderedConsumer(t.Context(), "tide-orders", jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	end, _ := streamEnd(t, js)
	var all []stamp
	for uint64(len(all)) < end {
		m, err := consumer.Next()
		if err != nil {
			t.Fatalf("after %d of %d messages: %v", len(all), end, err)
		}
		var s stamp
		if err := json.Unmarshal(m.Data(), &s); err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

func (o *overlapping) compare(t *testing.T, got []stamp, ends []uint64) {
	t.Helper()
	boundary := map[uint64]bool{0: true}
	seen := map[int]bool{}
	for from := 0; from < len(got); {
		number, n := got[from].T, 0
		for from+n < len(got) && got[from+n] == (stamp{number, n + 1}) {
			n++
		}
		if seen[number] || n == 0 || n != o.sizes[number] {
			t.Fatalf("at message %d of the stream: transaction %d has %d of %d events there, seen before: %t; around it: %v",
				from+1, number, n, o.sizes[number], seen[number], around(got, from))
		}
		seen[number] = true
		from += n
		boundary[uint64(from)] = true
	}
	if len(seen) != len(o.sizes) {
		t.Errorf("%d transactions in the stream, %d committed", len(seen), len(o.sizes))
	}
	for _, end := range ends {
		if !boundary[end] {
			t.Errorf("the stream was seen to end at message %d, within a transaction: %v", end, around(got, int(end)))
		}
	}
	t.Logf("%d transactions, %d events, looked at %d times", len(seen), len(got), len(ends))
}

func around(got []stamp, at int) string {
	return fmt.Sprint(got[max(0, at-5):min(len(got), at+5)])
}

func TestAnAtomicPipelineThatCannotBeIsExplained(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	dsn := schematest.Database(t, pgtest.Newest)
	service := &service{dsn: dsn, typed: pgtest.Conn(t, dsn), pool: pgtest.Pool(t, dsn)}
	service.execute(t, `select tide.outbox_create('orders')`)
	service.execute(t, `select tide.relay_set_outbox('orders-to-nats', 'orders', jsonb_build_object(
		'sink_type', 'nats', 'url', $1::text, 'subject', 'orders.{op}', 'atomic', true, 'lanes', 4))`, broker.URL())
	startRelay(t, dsn)
	eventually(t, func() (bool, string) {
		status := service.status(t)
		return strings.Contains(status, "misconfigured") && strings.Contains(status, "one lane"), status
	})
}
