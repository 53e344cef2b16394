package schema_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
)

// backfill calls for chunks until the end, and says how many there were.
func backfill(t testing.TB, conn *pgx.Conn, table string, chunk int) int {
	t.Helper()
	for n := 1; ; n++ {
		var finished bool
		err := conn.QueryRow(t.Context(), `select finished from tide.outbox_capture_backfill($1, $2)`, table, chunk).Scan(&finished)
		switch e := pgError(err); {
		case finished:
			return n
		case e != nil && e.Code == "40P01":
			// Undone as a whole, and done again by the next call.
		case err != nil:
			t.Fatal(err)
		}
		if n > 10000 {
			t.Fatal("no end")
		}
	}
}

func TestBackfillPublishesEveryRowOnceAndGoesOn(t *testing.T) {
	both(t, func(t *testing.T, conn *pgx.Conn, _ int) {
		exec(t, conn, `create table t (id int primary key, email text); insert into t select n, 'a@b' from generate_series(1, 10) n`)
		refused(t, conn, `select * from tide.outbox_capture_backfill('t')`, "42704", "not captured")
		exec(t, conn, `select tide.outbox_capture('t', 'o', '{"mask": ["email"], "event_type": "t.{op}", "when": "$.id != 4"}')`)
		refused(t, conn, `select * from tide.outbox_capture_backfill('t', 0)`, "22023", "chunk is 0", "100000")
		if got := value[string](t, conn, `select b::text from tide.outbox_capture_backfill('t', chunk => 3) b`); got != "(3,3,10,f)" {
			t.Errorf("the first chunk says %s", got)
		}
		expectEvents(t, conn, "chunk", `read 1 {"id": 1, "email": "***"} {"event_type": "t.read"}`, `read 2 {"id": 2, "email": "***"} {"event_type": "t.read"}`, `read 3 {"id": 3, "email": "***"} {"event_type": "t.read"}`)
		// A chunk that was rolled back is done again, by another session.
		exec(t, conn, `begin; select tide.outbox_capture_backfill('t', 3); rollback`)
		other := pgtest.Conn(t, conn.Config().ConnString())
		if got := value[string](t, other, `select b::text from tide.outbox_capture_backfill('t', chunk => 3) b`); got != "(3,6,10,f)" {
			t.Errorf("the second chunk says %s", got)
		}
		if got := value[string](t, conn, `select format('%s %s of %s', backfill, backfill_rows, backfill_total) from tide.outbox_captures`); got != "running 6 of 10" {
			t.Errorf("listed as %s", got)
		}
		if n := backfill(t, conn, "t", 3); n != 2 {
			t.Errorf("%d more chunks", n)
		}
		if got := strings.Join(column[string](t, conn, `select key from tide.outbox_event where op = 'read' order by id`), ""); got != "1235678910" {
			t.Errorf("read %s", got)
		}
		if got := value[string](t, conn, `select b::text from tide.outbox_capture_backfill('t') b`); got != "(0,10,10,t)" {
			t.Errorf("after the end it says %s", got)
		}
		if got := value[string](t, conn, `select b::text from tide.outbox_capture_backfill('t', restart => true) b`); got != "(10,10,10,t)" {
			t.Errorf("again it says %s", got)
		}
		exec(t, conn, `create table keyless (a int); select tide.outbox_capture('keyless', 'o', '{"key": "a"}')`)
		refused(t, conn, `select * from tide.outbox_capture_backfill('keyless')`, "55000", "no primary key")
	})
}

// Keys of several columns and of types whose order is not that of their text.
func TestBackfillFollowsTheOrderOfTheKey(t *testing.T) {
	both(t, func(t *testing.T, conn *pgx.Conn, _ int) {
		exec(t, conn, `create type mood as enum ('z', 'm', 'a'); create domain d as numeric`)
		for i, columns := range []string{
			`a int, b text`, `b text, a int`, `m mood, b text collate "C"`, `a d`, `t timestamptz, a int`, `u uuid`, `f float8, m mood`, `v varchar(5), a int`, `y bytea`, `dt date, c char(3)`,
		} {
			table := fmt.Sprintf("t%d", i)
			var names, values []string
			for _, c := range strings.Split(columns, ", ") {
				name := strings.Fields(c)[0]
				names = append(names, name)
				values = append(values, map[string]string{"a": "n % 7 - 3", "b": `chr(65 + n % 11) || ''''`, "m": "(enum_range(null::mood))[n % 3 + 1]",
					"t": "'2026-01-01'::timestamptz + n % 10 * interval '1.000001 s'", "u": "md5(n::text)::uuid", "f": "(n % 13) / 10.0 - 0.3", "v": "'v' || n % 5",
					"y": "decode(md5(n::text), 'hex')", "dt": "date '2026-01-01' + n % 9", "c": "'c' || n % 4"}[name])
			}
			exec(t, conn, `create table `+table+` (`+columns+`, primary key (`+strings.Join(names, ", ")+`)) partition by hash (`+names[0]+`);
				create table `+table+`_0 partition of `+table+` for values with (modulus 2, remainder 0); create table `+table+`_1 partition of `+table+` for values with (modulus 2, remainder 1)`)
			exec(t, conn, `insert into `+table+` select distinct `+strings.Join(values, ", ")+` from generate_series(1, 200) n`)
			exec(t, conn, `truncate tide.outbox_event_1; select tide.outbox_capture('`+table+`', 'o')`)
			backfill(t, conn, table, 4)
			if wrong := value[int](t, conn, `
				select count(*) from (select row_number() over (order by `+strings.Join(names, ", ")+`) as n, to_jsonb(r.*) as r from `+table+` r) a
				full join (select row_number() over (order by id) as n, payload from tide.outbox_event) e using (n)
				where a.r is distinct from e.payload`); wrong > 0 {
				t.Errorf("(%s): %d rows are not read once and in order", columns, wrong)
			}
		}
	})
}

// A change and the read of the same row arrive in the order in which they
// happened, whoever waits for whom.
func TestBackfillAndChangesKeepTheirOrder(t *testing.T) {
	both(t, func(t *testing.T, conn *pgx.Conn, _ int) {
		exec(t, conn, `create table t (id int primary key, v text); insert into t select n, 'old' from generate_series(1, 4) n; select tide.outbox_capture('t', 'o')`)
		dsn := conn.Config().ConnString()
		writer, reader := pgtest.Conn(t, dsn), pgtest.Conn(t, dsn)

		// The change came first: the read waits, and has the row as it is then.
		exec(t, writer, `begin; update t set v = 'new' where id = 2; delete from t where id = 3`)
		done := inBackground(t, reader, `select tide.outbox_capture_backfill('t', 3)`)
		waitsForLock(t, conn, reader.PgConn().PID())
		exec(t, writer, `commit`)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		expectEvents(t, conn, "the read waits", `update 2 {"v": "new", "id": 2}`, `delete 3 {"v": "old", "id": 3}`, `read 1 {"v": "old", "id": 1}`, `read 2 {"v": "new", "id": 2}`)

		// The read came first: the change waits.
		exec(t, conn, `select tide.outbox_capture_backfill('t', restart => true)`)
		captured(t, conn)
		exec(t, reader, `begin; select tide.outbox_capture_backfill('t', 3, restart => true)`)
		done = inBackground(t, writer, `update t set v = 'newer' where id = 2`)
		waitsForLock(t, conn, writer.PgConn().PID())
		exec(t, reader, `commit`)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		expectEvents(t, conn, "the change waits", `read 1 {"v": "old", "id": 1}`, `read 2 {"v": "new", "id": 2}`, `read 4 {"v": "old", "id": 4}`, `update 2 {"v": "newer", "id": 2}`)

		// A row whose key changes while the read waits for it takes no others along.
		exec(t, conn, `insert into t select n, 'more' from generate_series(5, 9) n`)
		captured(t, conn)
		exec(t, writer, `begin; update t set id = 100 where id = 2`)
		done = inBackground(t, reader, `select tide.outbox_capture_backfill('t', 3, restart => true)`)
		waitsForLock(t, conn, reader.PgConn().PID())
		exec(t, writer, `commit`)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		backfill(t, conn, "t", 3)
		if got := strings.Join(column[string](t, conn, `select op || key from (select * from tide.outbox_event order by id desc limit 10) e order by id`), " "); got != "delete2 insert100 read1 read4 read5 read6 read7 read8 read9 read100" {
			t.Errorf("events %s", got)
		}
	})
}

// What consumers keep, the newest payload of each key, is the table, whatever
// happens beside the backfill.
func TestBackfillBesideWritersEndsInTheTable(t *testing.T) {
	both(t, func(t *testing.T, conn *pgx.Conn, _ int) {
		exec(t, conn, `create table t (id int primary key, v int default 0); insert into t select n from generate_series(1, 300) n; select tide.outbox_capture('t', 'o')`)
		dsn := conn.Config().ConnString()
		var writers []<-chan error
		for w := range 3 {
			writers = append(writers, inBackground(t, pgtest.Conn(t, dsn), fmt.Sprintf(`
				do $$ begin
					for n in 1 .. 150 loop
						begin
							update t set v = v + 1 where id = (select (random() * 300)::int);
							delete from t where id = (select (random() * 300)::int);
							insert into t values ((random() * 300)::int, -n) on conflict (id) do update set v = excluded.v;
							update t set id = 1000 * %d + n where id = (select (random() * 300)::int);
						exception when deadlock_detected then null;
						end;
						commit;
					end loop;
				end $$`, w+1)))
		}
		backfill(t, conn, "t", 7)
		for _, w := range writers {
			if err := <-w; err != nil {
				t.Fatal(err)
			}
		}
		if wrong := column[string](t, conn, `
			select coalesce(t.id::text, e.key) || ' ' || coalesce(e.op, 'nothing')
			from (select distinct on (key) key, op, payload from tide.outbox_event order by key, id desc) e
			full join t on t.id::text = e.key
			where case when t.id is null then e.op <> 'delete' else e.op is null or e.op = 'delete' or e.payload <> to_jsonb(t.*) end`); len(wrong) > 0 {
			t.Errorf("keys whose last event is not the table's row: %q", wrong)
		}
	})
}

// inBackground runs a statement and gives its error.
func inBackground(t testing.TB, conn *pgx.Conn, sql string) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := conn.Exec(t.Context(), sql)
		done <- err
	}()
	return done
}
