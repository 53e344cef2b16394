package schema_test

import (
	"testing"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
)

const receiveThree = `
	select tide.outbox_receive('o', array_agg(('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid order by n),
		array_agg(to_jsonb(n) order by n), array_agg('s' || n order by n), array_agg('{"h": 1}'::jsonb order by n),
		array_agg(nullif(n, 2)::text order by n), array_agg('place'::text order by n))
	from generate_series($1::integer, $2::integer) n`

// What comes again is left out, wherever in the batch it stands, and the rest
// keeps its order.
func TestAnOutboxReceivesEachEventIDOnce(t *testing.T) {
	pgtest.Each(t, []int{pgtest.Oldest, pgtest.Newest}, func(t *testing.T, major int) {
		conn := embedded(t, major)
		exec(t, conn, `select tide.outbox_create('o'), tide.outbox_create('other')`)
		for _, batch := range [][3]int64{{2, 4, 3}, {1, 6, 3}, {1, 6, 0}} {
			if got := value[int64](t, conn, receiveThree, batch[0], batch[1]); got != batch[2] {
				t.Errorf("of events %d to %d, %d were published, want %d", batch[0], batch[1], got, batch[2])
			}
		}
		const want = "2 s2 - place {\"h\": 1}; 3 s3 3 place {\"h\": 1}; 4 s4 4 place {\"h\": 1}; 1 s1 1 place {\"h\": 1}; 5 s5 5 place {\"h\": 1}; 6 s6 6 place {\"h\": 1}"
		if got := value[string](t, conn, `select string_agg(concat_ws(' ', right(event_id::text, 1), stream, coalesce(key, '-'), op, headers), '; ' order by id) from tide.outbox_event`); got != want {
			t.Errorf("the outbox holds\n%s, want\n%s", got, want)
		}
		if got := value[int64](t, conn, `select tide.outbox_receive('other', array[e, e], '{1,2}', '{a,b}', array['{}', '{}']::jsonb[], '{k,k}', '{x,x}')
			from (select '00000000-0000-4000-8000-000000000001'::uuid as e) e`); got != 1 {
			t.Errorf("%d of an event that stands in a batch twice were published, want 1: another outbox does not count", got)
		}
		refused(t, conn, `select tide.outbox_receive('oo', '{}', '{}', '{}', '{}', '{}', '{}')`, "42704", `outbox "oo" does not exist`, `Did you mean "o"?`)
	})
}

// A relay that was superseded in the middle of a batch and its successor send
// the same events at once: the second waits for the first and knows them then,
// and publishes them when the first is rolled back.
func TestTwoSessionsThatReceiveTheSameEventsPublishThemOnce(t *testing.T) {
	for ending, want := range map[string]int64{"commit": 0, "rollback": 3} {
		t.Run(ending, func(t *testing.T) {
			conn := embedded(t, 0)
			exec(t, conn, `select tide.outbox_create('o')`)
			first, second := pgtest.Conn(t, conn.Config().ConnString()), pgtest.Conn(t, conn.Config().ConnString())
			exec(t, first, `begin`)
			exec(t, first, receiveThree, int64(1), int64(3))
			got := make(chan int64, 1)
			go func() { got <- value[int64](t, second, receiveThree, int64(1), int64(3)) }()
			for value[int](t, conn, `select count(*) from pg_locks where pid = $1 and not granted`, second.PgConn().PID()) == 0 {
			}
			exec(t, first, ending)
			if n := <-got; n != want {
				t.Errorf("the second published %d, want %d", n, want)
			}
			if n := value[int](t, conn, `select count(*) from tide.outbox_event`); n != 3 {
				t.Errorf("%d events are there, want 3", n)
			}
		})
	}
}

func TestReceivedEventIDsAreForgottenAfterTheRetention(t *testing.T) {
	conn := embedded(t, 0)
	exec(t, conn, `select tide.outbox_create('o', retention => '2 days')`)
	exec(t, conn, receiveThree, int64(1), int64(3))
	exec(t, conn, `update tide.outbox_received set received_at = now() - interval '3 days' where event_id::text like '%1'`)
	exec(t, conn, `update tide.outbox_received set received_at = now() - interval '1 day 23 hours' where event_id::text like '%2'`)
	exec(t, conn, `select from tide.maintain()`)
	if got := value[int64](t, conn, receiveThree, int64(1), int64(3)); got != 1 {
		t.Errorf("%d events were published again, want the one that is older than the retention", got)
	}
}

// A role that delivers into one outbox may publish there, and nowhere else.
func TestReceivingNeedsTheRightToPublishToThatOutbox(t *testing.T) {
	conn := embeddedAlone(t, 0)
	exec(t, conn, `select tide.outbox_create('o'), tide.outbox_create('other')`)
	name, as := asRole(t, conn, "in role tide_relay")
	denied(t, as, `select tide.outbox_receive('o', array[gen_random_uuid()], '{1}', '{a}', array['{}']::jsonb[], '{k}', '{x}')`)
	exec(t, conn, `select tide.outbox_grant_publish('o', '`+name+`')`)
	exec(t, as, `select tide.outbox_receive('o', array[gen_random_uuid()], '{1}', '{a}', array['{}']::jsonb[], '{k}', '{x}')`)
	denied(t, as, `select tide.outbox_receive('other', array[gen_random_uuid()], '{1}', '{a}', array['{}']::jsonb[], '{k}', '{x}')`)
}
