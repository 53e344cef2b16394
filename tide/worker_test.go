package tide_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/tide"
	"github.com/pg-tide/pg-tide/tide/tidetest"
)

// wantEffects checks that each message is processed and had one effect, and
// that the effects of a key came in the order of arrival.
func wantEffects(t *testing.T, db *tidetest.DB, messages int) {
	t.Helper()
	const state = `select format('%s processed, %s effects of %s messages, %s out of order',
		(select count(*) from tide.i_inbox where processed_at is not null), count(*), count(distinct e.event_id), count(*) filter (where e.disordered))
		from (select e.event_id, e.key <> '' and m.id < lag(m.id) over (partition by e.key order by e.at) as disordered
			from effect e join tide.i_inbox m using (event_id)) e`
	want := strings.ReplaceAll(`N processed, N effects of N messages, 0 out of order`, "N", value[string](t, db.Pool, `select $1::int::text`, messages))
	if got := value[string](t, db.Pool, state); got != want {
		t.Errorf("in the end: %s; want %s", got, want)
	}
}

type order struct {
	ID    int
	Total float64
}

func deliver(db *tidetest.DB, key string) string {
	return db.Deliver("i", tide.Event{Type: "order.created", Key: key, Payload: order{ID: 7, Total: 9.5}})
}

// row is what the inbox says of a message.
func row(t *testing.T, db *tidetest.DB, eventID string) string {
	t.Helper()
	return value[string](t, db.Pool, `select concat_ws(' ', case when processed_at is not null then 'processed' when dead_at is not null then 'dead'
		when lease_token is not null then 'leased' else 'waits' end, attempts, left(last_error, 60)) from tide.i_inbox where event_id = $1`, eventID)
}

func wantRow(t *testing.T, db *tidetest.DB, eventID, want string) {
	t.Helper()
	if got := row(t, db, eventID); got != want {
		t.Errorf("the message %s, want %s", got, want)
	}
}

func TestAHandlersResultSaysWhatBecomesOfTheMessage(t *testing.T) {
	declined := errors.New("card declined")
	for name, c := range map[string]struct {
		result  error
		outcome tide.Outcome
		row     string
	}{
		"nil":     {nil, tide.Processed, "processed 1"},
		"error":   {declined, tide.Failed, "waits 1 card declined"},
		"retry":   {tide.RetryIn(time.Hour, declined), tide.Failed, "waits 1 card declined"},
		"snooze":  {tide.Snooze(time.Hour), tide.Released, "waits 0"},
		"discard": {tide.Discard(declined), tide.Dead, "dead 1 card declined"},
	} {
		t.Run(name, func(t *testing.T) {
			db := database(t, 0)
			id := deliver(db, "")
			w := start(t, db, tide.WorkerConfig{}, func(w *tide.Worker) {
				tide.Handle(w, "order.created", func(_ context.Context, m *tide.Message, o order) error {
					if o != (order{7, 9.5}) || m.EventID != id || m.Attempts != 1 {
						return errors.New("that is another message")
					}
					return c.result
				})
			})
			w.WaitFor(t, id, c.outcome)
			wantRow(t, db, id, c.row)
			if pause := value[float64](t, db.Pool, `select coalesce(extract(epoch from next_attempt_at - clock_timestamp()), 0)::float from tide.i_inbox`); (name == "retry" || name == "snooze") != (pause > 3000) {
				t.Errorf("the pause is %v seconds", pause)
			}
		})
	}
}

func TestAPanicIsRetriedAndThenADeadLetterWithItsStackInTheLog(t *testing.T) {
	pgtest.Each(t, both, func(t *testing.T, major int) {
		db := database(t, major)
		id := deliver(db, "")
		said := &log{}
		w := start(t, db, tide.WorkerConfig{Logger: said.logger()}, func(w *tide.Worker) {
			w.Use(func(next tide.Handler) tide.Handler {
				return func(ctx context.Context, m *tide.Message) error {
					err := next(ctx, m)
					if e := new(tide.PanicError); errors.As(err, &e) && e.Value == "no such card" {
						return tide.RetryIn(0, err)
					}
					return err
				}
			})
			w.HandleOthers(func(context.Context, *tide.Message) error { panic("no such card") })
		})
		w.WaitFor(t, id, tide.Dead)
		wantRow(t, db, id, "dead 3 the handler panicked: no such card")
		if got := w.Outcomes(id); !slices.Equal(got, []tide.Outcome{tide.Failed, tide.Failed, tide.Dead}) {
			t.Errorf("it was %v", got)
		}
		if text := said.String(); !strings.Contains(text, "worker_test.go") || !strings.Contains(text, "became a dead letter") {
			t.Errorf("the log has no stack: %s", text)
		}
	})
}

func TestALostLeaseRollsBackWhatWasDone(t *testing.T) {
	pgtest.Each(t, both, func(t *testing.T, major int) {
		db := database(t, major)
		id := deliver(db, "k")
		w := start(t, db, tide.WorkerConfig{Concurrency: 1, PollOnly: true, PollInterval: time.Hour}, func(w *tide.Worker) {
			w.HandleOthers(func(ctx context.Context, m *tide.Message) error {
				if err := effect(ctx, m); err != nil {
					return err
				}
				// Another worker gets it, as if this one had been stopped for a while.
				_, err := db.Pool.Exec(ctx, `update tide.i_inbox set next_attempt_at = clock_timestamp();`)
				if err == nil {
					_, err = db.Pool.Exec(ctx, `select tide.inbox_claim('i', 'other')`)
				}
				return err
			})
		})
		w.WaitFor(t, id, tide.Lost)
		wantRow(t, db, id, "leased 2 "+row(t, db, id)[len("leased 2 "):])
		if n := value[int](t, db.Pool, `select count(*) from effect`); n != 0 {
			t.Errorf("%d effects are committed", n)
		}
	})
}

func TestALostLeaseEndsTheHandlersContext(t *testing.T) {
	db := database(t, 0)
	id := deliver(db, "k")
	causes := make(chan error, 1)
	w := start(t, db, tide.WorkerConfig{Lease: 300 * time.Millisecond, PollOnly: true, PollInterval: time.Hour}, func(w *tide.Worker) {
		w.HandleOthers(func(ctx context.Context, _ *tide.Message) error {
			if _, err := db.Pool.Exec(ctx, `select tide.inbox_mark_processed('i', array(select id from tide.i_inbox))`); err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				causes <- context.Cause(ctx)
			case <-time.After(tidetest.Patience):
				causes <- errors.New("nothing")
			}
			return ctx.Err()
		})
	})
	if err := <-causes; !errors.Is(err, tide.ErrLeaseLost) {
		t.Errorf("the context ended by %v", err)
	}
	w.WaitFor(t, id, tide.Lost)
}

// The handler takes more than twice its lease, and beats of the heart are all that
// passes: each is an update of the row, which is what the test waits for.
func TestHeartbeatsKeepTheLeaseOfALongHandler(t *testing.T) {
	pgtest.Each(t, both, func(t *testing.T, major int) {
		db := database(t, major)
		id := deliver(db, "k")
		const lease = 1200 * time.Millisecond
		w := start(t, db, tide.WorkerConfig{Lease: lease}, func(w *tide.Worker) {
			w.HandleOthers(func(ctx context.Context, m *tide.Message) error {
				if err := effect(ctx, m); err != nil {
					return err
				}
				var begun, until time.Time
				const look = `select clock_timestamp(), next_attempt_at from tide.i_inbox`
				if err := db.Pool.QueryRow(ctx, look).Scan(&begun, &until); err != nil {
					return err
				}
				again := time.NewTicker(20 * time.Millisecond)
				defer again.Stop()
				for now := begun; now.Sub(begun) < 5*lease/2; <-again.C {
					if err := db.Pool.QueryRow(ctx, look).Scan(&now, &until); err != nil {
						return err
					}
				}
				return nil
			})
		})
		other := start(t, db, tide.WorkerConfig{PollInterval: 20 * time.Millisecond, Lease: lease}, func(w *tide.Worker) { w.HandleOthers(effect) })
		until(t, func() bool { return len(w.Outcomes(id))+len(other.Outcomes(id)) > 0 })
		wantRow(t, db, id, "processed 1")
		wantEffects(t, db, 1)
	})
}

// until waits for what nobody announces.
func until(t *testing.T, done func() bool) {
	t.Helper()
	limit := time.After(tidetest.Patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("the workers did not get that far")
		}
	}
}

func TestAGracefulStopFinishesWhatIsBegunAndReleasesTheRest(t *testing.T) {
	pgtest.Each(t, both, func(t *testing.T, major int) {
		db := database(t, major)
		// The first ones teach the worker that it is quick, so that it claims ahead.
		db.Exec(fill, 300, false, "quick")
		var once sync.Once
		begun, proceed := make(chan string, 1000), make(chan struct{})
		w := start(t, db, tide.WorkerConfig{Concurrency: 2, StopTimeout: time.Minute}, func(w *tide.Worker) {
			w.HandleOthers(func(_ context.Context, m *tide.Message) error {
				if m.Type == "slow" {
					begun <- m.EventID
					<-proceed
				}
				return nil
			})
		})
		defer once.Do(func() { close(proceed) })
		db.Exec(strings.Replace(fill, "'bench'", "'slow'", 1), 100, false, "slow")
		db.Exec(`select pg_notify('tide_inbox_i', '')`)
		first := []string{<-begun, <-begun}
		w.stop()
		// Others have the rest while these two are still in work.
		start(t, db, tide.WorkerConfig{}, func(w *tide.Worker) {
			w.HandleOthers(func(context.Context, *tide.Message) error { return nil })
		})
		left := 100 - len(first)
		until(t, func() bool {
			return value[int](t, db.Pool, `select count(*) from tide.i_inbox where event_type = 'slow' and processed_at is not null`) == left
		})
		once.Do(func() { close(proceed) })
		if err := w.stopped(); err != nil {
			t.Error(err)
		}
		for _, id := range first {
			wantRow(t, db, id, "processed 1")
			if got := w.Outcomes(id); !slices.Equal(got, []tide.Outcome{tide.Processed}) {
				t.Errorf("%s was %v", id, got)
			}
		}
		if n := value[int](t, db.Pool, `select count(*) from tide.i_inbox where attempts <> 1 or processed_at is null`); n != 0 {
			t.Errorf("%d messages were not worked by one attempt", n)
		}
	})
}

func TestAHandlerThatDoesNotReturnIsToldAndThenAbandoned(t *testing.T) {
	db := database(t, 0)
	told, stuck := deliver(db, ""), deliver(db, "")
	begun, release := make(chan struct{}, 2), make(chan struct{})
	w := start(t, db, tide.WorkerConfig{StopTimeout: 500 * time.Millisecond}, func(w *tide.Worker) {
		w.HandleOthers(func(ctx context.Context, m *tide.Message) error {
			begun <- struct{}{}
			<-ctx.Done()
			if m.EventID == stuck {
				<-release
			}
			return context.Cause(ctx)
		})
	})
	<-begun
	<-begun
	started := time.Now()
	err := w.stopped()
	if took := time.Since(started); took > 5*time.Second {
		t.Errorf("the stop took %s", took)
	}
	if !errors.Is(err, tide.ErrStopTimeout) || !strings.Contains(err.Error(), "1 messages") {
		t.Errorf("Run returned %v", err)
	}
	wantRow(t, db, told, "waits 0")
	wantRow(t, db, stuck, "leased 1")
	close(release)
}

func TestOrderPerKeyHoldsWithManyAtOnce(t *testing.T) {
	pgtest.Each(t, both, func(t *testing.T, major int) {
		db := database(t, major)
		const messages = 300
		db.Exec(fill, messages, true, "e")
		db.Exec(`update tide.i_inbox set key = 'k' || id % 7`)
		for range 3 {
			start(t, db, tide.WorkerConfig{Concurrency: 8, PollInterval: 20 * time.Millisecond}, func(w *tide.Worker) {
				w.HandleOthers(effect)
			})
		}
		until(t, func() bool {
			return value[int](t, db.Pool, `select count(*) from tide.i_inbox where processed_at is null`) == 0
		})
		wantEffects(t, db, messages)
	})
}

// A claim may give some of what it was asked for although more is there: others
// have what it saw. The worker would look by itself only in an hour.
func TestAClaimThatGotSomeIsFollowedByAnother(t *testing.T) {
	for _, c := range []struct{ concurrency, others int }{
		{4, 60},     // it sees 62, and gets 2 of them
		{400, 1249}, // it sees 1250, and gets 1 of them
	} {
		db := database(t, 0)
		const free = 10
		db.Exec(fill, c.others+free, false, "e")
		held, err := db.Pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer held.Rollback(context.WithoutCancel(t.Context()))
		if _, err := held.Exec(t.Context(), `select from tide.i_inbox order by id limit $1 for update`, c.others); err != nil {
			t.Fatal(err)
		}
		start(t, db, tide.WorkerConfig{Concurrency: c.concurrency, PollOnly: true, PollInterval: time.Hour}, func(w *tide.Worker) {
			w.HandleOthers(effect)
		})
		until(t, func() bool {
			return value[int](t, db.Pool, `select count(*) from tide.i_inbox where processed_at is not null`) == free
		})
	}
}

// The worker would look by itself only in an hour.
func TestANotificationWakesAWorker(t *testing.T) {
	db := database(t, 0)
	said := &log{heard: make(chan struct{}), wanted: "listening"}
	w := start(t, db, tide.WorkerConfig{PollInterval: time.Hour, Logger: said.logger()}, func(w *tide.Worker) {
		w.HandleOthers(func(context.Context, *tide.Message) error { return nil })
	})
	<-said.heard
	w.WaitFor(t, deliver(db, ""), tide.Processed)
	w.WaitFor(t, deliver(db, "k"), tide.Processed)
}

func TestAWorkerWorksThroughAPoolerInTransactionMode(t *testing.T) {
	db := database(t, 0)
	through := pgtest.Pooler(t, pgtest.Server(t, 0))
	pooled := tidetest.Use(t, pgtest.Pool(t, through(db.Pool.Config().ConnString())+"&default_query_exec_mode=exec"))
	said := &log{heard: make(chan struct{}), wanted: "a pooler stands before the database"}
	w := start(t, pooled, tide.WorkerConfig{PollInterval: 20 * time.Millisecond, Logger: said.logger()}, func(w *tide.Worker) {
		w.HandleOthers(effect)
	})
	<-said.heard
	for range 20 {
		w.WaitFor(t, deliver(db, "k"), tide.Processed)
	}
	if _, err := tide.Publish(t.Context(), pooled.Pool, "o", tide.Event{Type: "x", Payload: 1}); err != nil {
		t.Error(err)
	}
	wantEffects(t, db, 20)
}

func TestAHandlersOwnTransactionMayCompleteTheMessage(t *testing.T) {
	db := database(t, 0)
	id := deliver(db, "")
	w := start(t, db, tide.WorkerConfig{}, func(w *tide.Worker) {
		w.HandleOthers(func(ctx context.Context, m *tide.Message) error {
			tx, err := openSQL(t, db).BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			defer tx.Rollback()
			if _, err := tx.ExecContext(ctx, `insert into effect (event_id, key) values ($1, '')`, m.EventID); err != nil {
				return err
			}
			if err := tide.Complete(ctx, tide.SQL(tx)); err != nil {
				return err
			}
			return tx.Commit()
		})
	})
	w.WaitFor(t, id, tide.Processed)
	wantEffects(t, db, 1)
}

func TestWhatAWorkerIsSetUpWithWronglyIsSaid(t *testing.T) {
	db := database(t, 0)
	none := func(context.Context, *tide.Message) error { return nil }
	for name, c := range map[string]struct {
		config tide.WorkerConfig
		set    func(*tide.Worker)
		want   string
	}{
		"no inbox":         {tide.WorkerConfig{}, nil, "no Inbox is given"},
		"a negative lease": {tide.WorkerConfig{Inbox: "i", Lease: -1}, nil, "Lease is negative"},
		"a long lease":     {tide.WorkerConfig{Inbox: "i", Lease: 25 * time.Hour}, nil, "a Lease of 25h0m0s is not between"},
		"no handler":       {tide.WorkerConfig{Inbox: "i"}, func(*tide.Worker) {}, "has no handler"},
		"two handlers": {tide.WorkerConfig{Inbox: "i"}, func(w *tide.Worker) {
			tide.Handle(w, "a", func(context.Context, *tide.Message, int) error { return nil })
			tide.Handle(w, "a", func(context.Context, *tide.Message, int) error { return nil })
		}, `"a" was given two handlers`},
		"no such inbox": {tide.WorkerConfig{Inbox: "missing"}, func(w *tide.Worker) { w.HandleOthers(none) }, `inbox "missing" does not exist`},
	} {
		w, err := tide.NewWorker(db.Pool, c.config)
		if err == nil {
			c.set(w)
			err = w.Run(t.Context())
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
}
