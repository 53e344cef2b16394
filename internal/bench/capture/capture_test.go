package capture

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/schema"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// The tables, and what watches each: nothing; a row trigger by hand that inserts
// into a table, and one that publishes; a statement trigger by hand, as it
// would be written for one table alone; a capture, one with options, and one of
// a table with a type that belongs to neither a superuser nor the schema's owner.
const set = `
create type mood as enum ('sad', 'happy');
create role bench_types; alter type mood owner to bench_types;
create table template (id bigint primary key, customer text not null, total numeric not null, status text not null, at timestamptz not null default now());
create table none (like template including all);
create table byhand (like template including all);
create table publish (like template including all);
create table own (like template including all);
create table captured (like template including all);
create table options (like template including all);
create table types (like template including all, mood mood default 'sad');
create table changes (id bigint generated always as identity primary key, op text, key text, payload jsonb);
create function byhand() returns trigger language plpgsql as $$
begin
	if tg_op = 'DELETE' then
		insert into changes (op, key, payload) values ('delete', old.id::text, to_jsonb(old));
	else
		insert into changes (op, key, payload) values (lower(tg_op), new.id::text, to_jsonb(new));
	end if;
	return null;
end $$;
create trigger byhand after insert or update or delete on byhand for each row execute function byhand();
create function publish() returns trigger language plpgsql as $$
begin
	if tg_op = 'DELETE' then
		perform tide.outbox_publish('bench', 'publish', to_jsonb(old), key => old.id::text, op => 'delete');
	else
		perform tide.outbox_publish('bench', 'publish', to_jsonb(new), key => new.id::text, op => lower(tg_op));
	end if;
	return null;
end $$;
create trigger publish after insert or update or delete on publish for each row execute function publish();
create function own() returns trigger language plpgsql as $$
begin
	perform tide.outbox_publish_many('bench', array_agg(to_jsonb(n.*)), array['own'], keys => array_agg(n.id::text), ops => array[lower(tg_op)]) from changed n;
	return null;
end $$;
create trigger own_insert after insert on own referencing new table as changed for each statement execute function own();
create trigger own_update after update on own referencing new table as changed for each statement execute function own();
create trigger own_delete after delete on own referencing old table as changed for each statement execute function own();
select tide.outbox_create('bench'), tide.outbox_capture('captured', 'bench'),
	tide.outbox_capture('options', 'bench', '{"exclude": ["at"], "mask": ["customer"], "old_values": true, "when": "$.total >= 0"}'),
	tide.outbox_capture('types', 'bench')`

var lanes = []string{"none", "byhand", "publish", "own", "captured", "options", "types"}

// statements are run, each in a transaction of its own, on table %[1]s; $1 counts.
var statements = []struct {
	name, sql string
	repeat    int
}{
	{"insert of 1 row", `insert into %[1]s (id, customer, total, status) values ($1 + 1000000, 'CUST-42', 149.99, 'created')`, 400},
	{"update of 1 row", `update %[1]s set status = 'paid', total = total + 1 where id = $1 %% 1000 + 1`, 400},
	{"delete of 1 row", `delete from %[1]s where id = $1 + 1000000`, 400},
	{"insert of 1000 rows", `insert into %[1]s (id, customer, total, status) select $1::bigint * 1000 + 9000000 + n, 'CUST-42', 149.99, 'created' from generate_series(1, 1000) n`, 4},
	{"update of 1000 rows", `update %[1]s set status = 'paid', total = total + 1 where id <= 1000 and $1::bigint >= 0`, 4},
}

// BenchmarkCapture prints, for each kind of statement, the fastest round's
// time with each watcher and how it compares with the bare table and with the row trigger.
func BenchmarkCapture(b *testing.B) {
	for _, major := range []int{pgtest.Oldest, pgtest.Newest} {
		b.Run(fmt.Sprintf("postgresql%d", major), func(b *testing.B) { measure(b, major) })
	}
}

func measure(b *testing.B, major int) {
	conn := pgtest.Conn(b, pgtest.Database(b, major))
	if err := schema.Install(b.Context(), conn); err != nil {
		b.Fatal(err)
	}
	do(b, conn, `do $$ begin drop role if exists bench_types; end $$`)
	do(b, conn, set)
	b.Cleanup(func() {
		ctx := context.WithoutCancel(b.Context())
		_, _ = conn.Exec(ctx, `drop owned by bench_types cascade; drop role bench_types`)
	})
	for _, lane := range lanes {
		do(b, conn, `insert into `+lane+` (id, customer, total, status) select n, 'CUST-42', 149.99, 'created' from generate_series(1, 1000) n`)
	}
	for _, s := range statements {
		times := map[string][]time.Duration{}
		for round := range max(b.N, 1) {
			for i := range lanes {
				lane := lanes[(i+round)%len(lanes)]
				sql := fmt.Sprintf(s.sql, lane)
				begun := time.Now()
				for n := range s.repeat {
					if _, err := conn.Exec(b.Context(), sql, round*s.repeat+n); err != nil {
						b.Fatal(err)
					}
				}
				times[lane] = append(times[lane], time.Since(begun)/time.Duration(s.repeat))
			}
		}
		// The benchmark begins with one round, which warms up.
		if b.N > 1 {
			report(b, s.name, times)
		}
	}
}

func report(b *testing.B, name string, times map[string][]time.Duration) {
	b.Helper()
	bare, byhand := fastest(times["none"]), fastest(times["byhand"])
	for _, lane := range lanes {
		m := fastest(times[lane])
		// Not by b.Log, which shows ten lines and no more.
		fmt.Printf("%s: %-20s %-9s %9.1f µs  %5.2f of the bare table  %5.2f of the row trigger\n", b.Name(), name, lane,
			float64(m)/float64(time.Microsecond), float64(m)/float64(bare), float64(m)/float64(byhand))
	}
}

// fastest is the round that others on the machine disturbed least.
func fastest(all []time.Duration) time.Duration { return slices.Min(all) }

func do(b *testing.B, conn *pgx.Conn, sql string) {
	b.Helper()
	if _, err := conn.Exec(b.Context(), sql); err != nil {
		b.Fatalf("%s: %v", sql, err)
	}
}
