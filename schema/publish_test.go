package schema_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/throwaway"
	"github.com/pg-tide/pg-tide/schema"
)

func TestPublishingWorksInEveryKindOfTransaction(t *testing.T) {
	pgtest.Each(t, pgtest.All(), func(t *testing.T, major int) {
		conn := embedded(t, major)
		exec(t, conn, `select tide.outbox_create('o')`)
		_, as := asRole(t, conn, "in role tide_publisher")
		exec(t, conn, `create schema app; grant usage, create on schema app to public`)
		exec(t, as, `
			create table app.orders (id int);
			create function app.announce() returns trigger language plpgsql as $$
			begin
				perform tide.outbox_publish('o', 'orders', jsonb_build_object('name', 'trigger'));
				return new;
			end $$;
			create trigger announce after insert on app.orders for each row execute function app.announce();
			create function app.place() returns void language sql as $$
				select tide.outbox_publish('o', 'orders', jsonb_build_object('name', 'function'))
			$$`)
		for name, do := range publishers() {
			t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
				do(t, as)
				if n := value[int](t, conn, `select count(*) from tide.outbox_event where payload ->> 'name' = $1`, name); n != 1 {
					t.Errorf("%d events, want 1", n)
				}
				if n := value[int](t, conn, `select count(*) from tide.outbox_event where payload ->> 'name' = 'undone'`); n != 0 {
					t.Errorf("%d events of what was rolled back", n)
				}
			})
		}
	})
}

const publishOne = `select tide.outbox_publish('o', 'orders', jsonb_build_object('name', $1::text))`

// publishers each publish one event with their name, and perhaps some that
// are rolled back.
func publishers() map[string]func(*testing.T, *pgx.Conn) {
	script := func(sql string) func(*testing.T, *pgx.Conn) {
		return func(t *testing.T, conn *pgx.Conn) { exec(t, conn, sql) }
	}
	return map[string]func(*testing.T, *pgx.Conn){
		"trigger":  script(`insert into app.orders values (1)`),
		"function": script(`select app.place()`),
		"savepoint": script(`begin; savepoint a;
			select tide.outbox_publish('o', 'orders', '{"name": "undone"}'); rollback to a;
			savepoint b; select tide.outbox_publish('o', 'orders', '{"name": "savepoint"}'); release b; commit`),
		"rolled back first": script(`begin; select tide.outbox_publish('o', 'orders', '{"name": "undone"}'); rollback;
			select tide.outbox_publish('o', 'orders', '{"name": "rolled back first"}')`),
		"subtransaction": script(`do $$ begin
			begin perform tide.outbox_publish('o', 'orders', '{"name": "undone"}'); raise 'no'; exception when others then null; end;
			perform tide.outbox_publish('o', 'orders', '{"name": "subtransaction"}');
			end $$`),
		"read committed":  script(`begin isolation level read committed; select tide.outbox_publish('o', 'orders', '{"name": "read committed"}'); commit`),
		"repeatable read": script(`begin isolation level repeatable read; select tide.outbox_publish('o', 'orders', '{"name": "repeatable read"}'); commit`),
		"serializable":    script(`begin isolation level serializable; select tide.outbox_publish('o', 'orders', '{"name": "serializable"}'); commit`),
		"prepared statement": func(t *testing.T, conn *pgx.Conn) {
			exec(t, conn, publishOne, "prepared statement")
		},
		"simple protocol": func(t *testing.T, conn *pgx.Conn) {
			exec(t, conn, publishOne, pgx.QueryExecModeSimpleProtocol, "simple protocol")
		},
		"unnamed statement": func(t *testing.T, conn *pgx.Conn) {
			exec(t, conn, publishOne, pgx.QueryExecModeExec, "unnamed statement")
		},
		"hostile search_path": script(`set search_path = app; create function app.clock_timestamp() returns timestamptz language sql as $$ select 'infinity'::timestamptz $$;
			select tide.outbox_publish('o', 'orders', '{"name": "hostile search_path"}'); reset search_path`),
	}
}

// hostileSQL is a schema in which all that publishing names by itself fails,
// and in which whoever publishes looks first.
const hostileSQL = `
	create schema hostile;
	create function hostile.fail() returns text language plpgsql as $$ begin raise 'misled'; end $$;
	create function hostile.gen_random_uuid() returns pg_catalog.uuid language sql as $$ select hostile.fail()::pg_catalog.uuid $$;
	create function hostile.length(text) returns integer language sql as $$ select hostile.fail()::integer $$;
	create function hostile.jsonb_typeof(jsonb) returns text language sql as $$ select hostile.fail() $$;
	create function hostile.hashtext(text) returns integer language sql as $$ select hostile.fail()::integer $$;
	create function hostile.pg_try_advisory_xact_lock_shared(integer, integer) returns boolean language sql as $$ select hostile.fail()::boolean $$;
	create function hostile.current_setting(text) returns text language sql as $$ select hostile.fail() $$;
	create function hostile.pg_notify(text, text) returns void language sql as $$ select hostile.fail() $$;
	create function hostile.compare(text, text) returns boolean language sql as $$ select hostile.fail()::boolean $$;
	create function hostile.compare(integer, integer) returns boolean language sql as $$ select hostile.fail()::boolean $$;
	create function hostile.compare(pg_catalog.name, text) returns boolean language sql as $$ select hostile.fail()::boolean $$;
	create operator hostile.= (function = hostile.compare, leftarg = text, rightarg = text);
	create operator hostile.<> (function = hostile.compare, leftarg = text, rightarg = text);
	create operator hostile.~~ (function = hostile.compare, leftarg = text, rightarg = text);
	create operator hostile.!~ (function = hostile.compare, leftarg = text, rightarg = text);
	create operator hostile.> (function = hostile.compare, leftarg = integer, rightarg = integer);
	create domain hostile.uuid as pg_catalog.uuid check (hostile.fail() = '');
	create domain hostile.bool as pg_catalog.bool check (hostile.fail() = '');
	create domain hostile.text as pg_catalog.text check (hostile.fail() = '');
	set search_path = hostile, pg_catalog`

// Publishing does not pin its search_path, for speed, and so must not depend
// on the caller's: of the session that publishes first, and after plans were made.
func TestNoSearchPathMisleadsPublishing(t *testing.T) {
	pgtest.Each(t, []int{pgtest.Oldest, pgtest.Newest}, func(t *testing.T, major int) {
		conn := embedded(t, major)
		exec(t, conn, `select tide.outbox_create('o')`)
		sleeper := pgtest.Conn(t, conn.Config().ConnString())
		exec(t, sleeper, `select pg_try_advisory_lock(1953063013, hashtext('o'))`)
		exec(t, conn, hostileSQL)
		for range 10 { // beyond where a plan becomes generic
			exec(t, conn, `select tide.outbox_publish('o', 'orders', '{}', key => 'k', op => 'place')`)
			exec(t, conn, `select tide.outbox_publish('o', '{}'::jsonb)`)
		}
		for _, wrong := range []string{`'', '{}'`, `'{1', '{}'`, `repeat('x', 256), '{}'`, `'s', '{}', '[]'`, `'s', '{}', key => ''`, `'s', '{}', op => 'a b'`} {
			_, err := conn.Exec(t.Context(), `select tide.outbox_publish('o', `+wrong+`)`)
			if pgErr := (*pgconn.PgError)(nil); !errors.As(err, &pgErr) || pgErr.Code != "22023" {
				t.Errorf("publishing %s: %v, want it refused", wrong, err)
			}
		}
		if n := value[int](t, conn, `select count(*) from tide.outbox_event`); n != 20 {
			t.Errorf("%d events, want 20", n)
		}
	})
}

// A transaction that has notified could not be prepared, so nobody is notified
// where that is possible, though somebody sleeps.
func TestAPublishingTransactionMayBePrepared(t *testing.T) {
	server := pgtest.Own(t, throwaway.Options{Settings: map[string]string{"max_prepared_transactions": "10"}})
	conn := pgtest.Conn(t, server.DSN("postgres"))
	if err := schema.Install(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	exec(t, conn, `select tide.outbox_create('o')`)
	sleeper := pgtest.Conn(t, server.DSN("postgres"))
	exec(t, sleeper, `select pg_try_advisory_lock(1953063013, hashtext('o'))`)
	exec(t, conn, `begin`)
	exec(t, conn, publishOne, "prepared transaction")
	exec(t, conn, `prepare transaction 'x'`)
	exec(t, conn, `commit prepared 'x'`)
	if n := value[int](t, conn, `select count(*) from tide.outbox_event`); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
}

// Only while somebody sleeps is anybody notified: NOTIFY is dear under load.
func TestPublishersNotifyOnlyWhoSleeps(t *testing.T) {
	server := pgtest.Own(t, throwaway.Options{Settings: map[string]string{"max_prepared_transactions": "0"}})
	conn := pgtest.Conn(t, server.DSN("postgres"))
	if err := schema.Install(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	exec(t, conn, `select tide.outbox_create('o')`)
	relay := pgtest.Conn(t, server.DSN("postgres"))
	exec(t, relay, `listen tide_outbox; listen finished`)
	publish := func(name string) { exec(t, conn, publishOne, name) }
	publish("while awake")
	exec(t, relay, `select pg_try_advisory_lock(1953063013, hashtext('o'))`)
	publish("while asleep")
	exec(t, relay, `select pg_advisory_unlock(1953063013, hashtext('o'))`)
	publish("while awake again")
	exec(t, conn, `notify finished`)
	for _, want := range []string{"tide_outbox o", "finished "} {
		n, err := relay.WaitForNotification(t.Context())
		if err != nil || n.Channel+" "+n.Payload != want {
			t.Fatalf("heard %+v, %v, want %q", n, err, want)
		}
	}
}

func TestPublishingFillsInWhatIsNotGiven(t *testing.T) {
	conn := embedded(t, 0)
	exec(t, conn, `select tide.outbox_create('order_events')`)
	const id = "1f0c2d3e-0000-4000-8000-000000000000"
	if got := value[string](t, conn, `select tide.outbox_publish('order_events', 'orders', '{}', event_id => $1)::text`, id); got != id {
		t.Errorf("event id %s, want the given", got)
	}
	exec(t, conn, `select tide.outbox_publish('order_events', '{"a": 1}'::jsonb, '{"h": "x"}')`)
	exec(t, conn, `select tide.outbox_publish('order_events', null, '{}', null, null, null, null)`)
	got := column[string](t, conn, `select concat_ws(' ', stream, coalesce(key, '-'), op, payload, headers) from tide.outbox_event order by id`)
	want := "orders - insert {} {}|order_events - insert {\"a\": 1} {\"h\": \"x\"}|order_events - insert {} {}"
	if strings.Join(got, "|") != want {
		t.Errorf("got %s, want %s", strings.Join(got, "|"), want)
	}
	if n := value[int](t, conn, `select count(*) from tide.outbox_event where xid = '0' or event_id is null or published_at < now() - interval '1 hour'`); n != 0 {
		t.Errorf("%d events lack something", n)
	}
}

// A transaction must have its xid before it draws an id: the reader's bound rests on it.
func TestAnEventsXidIsAssignedBeforeItsID(t *testing.T) {
	conn := embedded(t, 0)
	defaults := column[string](t, conn, `
		select a.attname from pg_attribute a join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
		where a.attrelid = 'tide.outbox_event'::regclass order by a.attnum`)
	if len(defaults) < 2 || defaults[0] != "xid" || defaults[1] != "id" {
		t.Errorf("defaults come in the order %q, want xid and id first", defaults)
	}
	if cache := value[int](t, conn, `select seqcache from pg_sequence where seqrelid = 'tide.outbox_event_id_seq'::regclass`); cache != 1 {
		t.Errorf("the sequence caches %d ids", cache)
	}
}

func TestADroppedOutboxLeavesItsPartitionForALaterOne(t *testing.T) {
	conn := embedded(t, 0)
	exec(t, conn, `select tide.outbox_create('a'), tide.outbox_publish('a', '{}'::jsonb)`)
	exec(t, conn, `select tide.outbox_drop('a')`)
	exec(t, conn, `select tide.outbox_create('b')`)
	if part := value[int](t, conn, `select part from tide.outbox where name = 'b'`); part != 2 {
		t.Errorf("outbox b took part %d, which was left a moment ago", part)
	}
	// A publisher that came late wrote into the partition after it was emptied.
	exec(t, conn, `insert into tide.outbox_event (part, stream, op, payload, headers) values (1, 's', 'o', '{}', '{}')`)
	exec(t, conn, `update tide.outbox_part set used_since = now() - interval '2 hours' where part = 1`)
	exec(t, conn, `select tide.outbox_create('c')`)
	if part := value[int](t, conn, `select part from tide.outbox where name = 'c'`); part != 1 {
		t.Errorf("outbox c took part %d", part)
	}
	if n := value[int](t, conn, `select count(*) from tide.outbox_event where part = 1`); n != 0 {
		t.Errorf("the new outbox holds %d events of the old one", n)
	}
}

// The index of outbox names costs publishing more than the page that the table
// has; the planner knows that only of a table that was analyzed.
func TestPublishingDoesNotGoThroughTheIndexOfAFewOutboxes(t *testing.T) {
	pgtest.Each(t, pgtest.All(), func(t *testing.T, major int) {
		conn := embedded(t, major)
		throughTheIndex := func() int {
			const scans = `select pg_stat_get_xact_numscans('tide.outbox_name_key'::regclass)`
			exec(t, conn, `begin`)
			defer exec(t, conn, `rollback`)
			before := value[int](t, conn, scans)
			for range 10 {
				exec(t, conn, `select tide.outbox_publish('o', 'orders', '{}'::jsonb)`)
			}
			return value[int](t, conn, scans) - before
		}
		exec(t, conn, `select tide.outbox_create('o')`)
		if n := throughTheIndex(); n != 0 {
			t.Errorf("of 10 events %d found their outbox through the index", n)
		}
		// What a restored dump is like.
		exec(t, conn, `update pg_class set reltuples = -1, relpages = 0 where oid = 'tide.outbox'::regclass`)
		if n := throughTheIndex(); n != 10 {
			t.Errorf("of 10 events %d found their outbox through the index of a table that was never analyzed: the test shows nothing", n)
		}
		maintain(t, conn)
		if n := throughTheIndex(); n != 0 {
			t.Errorf("of 10 events %d found their outbox through the index after maintenance", n)
		}
	})
}

// Inboxes keep event ids in an index: ids that come in the order of their
// events are added at its end, whatever its size.
func TestEventIDsBeginWithTheTimeAndAreVersion7(t *testing.T) {
	pgtest.Each(t, []int{pgtest.Oldest, pgtest.Newest}, func(t *testing.T, major int) {
		conn := embedded(t, major)
		exec(t, conn, `select tide.outbox_create('o'); create table captured (id int primary key)`)
		exec(t, conn, `select tide.outbox_capture('captured', 'o')`)
		for range 3 {
			exec(t, conn, `select tide.outbox_publish('o', 's', '{}')`)
			exec(t, conn, `select tide.outbox_publish_many('o', array_fill('{}'::jsonb, array[2]), event_ids => array[null, null]::uuid[])`)
			exec(t, conn, `insert into captured select coalesce(max(id), 0) + 1 from captured`)
			if !value[bool](t, conn, `
				select bool_and(id > before) is not false from (
					select u.id, lag(u.id) over (order by u.place) as before
					from unnest(tide.outbox_publish_many('o', array_fill('{}'::jsonb, array[500]))) with ordinality u (id, place)) i`) {
				t.Error("the event ids of one call are not in order")
			}
		}
		const wrong = `
			with e as (
				select e.event_id::text as event_id, lag(e.event_id::text) over (order by e.id) as before, e.published_at,
				    to_timestamp(('x' || replace(left(e.event_id::text, 13), '-', ''))::bit(48)::bigint / 1000.0) as moment
				from tide.outbox_event e)
			select count(*) from e
			where e.event_id !~ '^.{14}7.{4}[89ab]' or abs(extract(epoch from e.published_at - e.moment)) > 60
				or left(e.event_id, 13) < left(e.before, 13)`
		if n := value[int](t, conn, wrong); n != 0 {
			t.Errorf("%d event ids are not of version 7, not of their time, or not in order of time", n)
		}
		if n := value[int](t, conn, `select count(distinct event_id) from tide.outbox_event`); n != 3*(1+2+1+500) {
			t.Errorf("%d different event ids, want %d", n, 3*(1+2+1+500))
		}
	})
}
