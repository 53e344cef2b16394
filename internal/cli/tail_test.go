package cli

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pg-tide/pg-tide/internal/catalog"
	"github.com/pg-tide/pg-tide/internal/listing"
	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/schema"
)

// installed makes a database with the schema, and a session as commands have it.
func installed(t *testing.T) (dsn string, conn *pgx.Conn) {
	t.Helper()
	dsn = pgtest.Database(t, 0)
	if err := schema.Install(t.Context(), pgtest.Conn(t, dsn)); err != nil {
		t.Fatal(err)
	}
	conn, err := catalog.Connect(t.Context(), dsn, func(*pgconn.Notice) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close(context.Background()) // the test is over
	})
	return dsn, conn
}

// shown asks a follower once and returns a column of what it shows.
func shown(t *testing.T, f follower, conn *pgx.Conn, column string) []string {
	t.Helper()
	var values []string
	err := f.next(t.Context(), conn, func(rows listing.Rows) error {
		for i := range rows.Values {
			values = append(values, rows.Text(i, column))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return values
}

func publish(t *testing.T, tx pgx.Tx, n string) {
	t.Helper()
	if _, err := tx.Exec(t.Context(), `select tide.outbox_publish('o', 's', to_jsonb($1::text))`, n); err != nil {
		t.Fatal(err)
	}
}

func TestTailShowsWhatCommitsLateWithALowerId(t *testing.T) {
	t.Parallel()
	dsn, conn := installed(t)
	if _, err := conn.Exec(t.Context(), `select tide.outbox_create('o')`); err != nil {
		t.Fatal(err)
	}
	f, err := tailing{name: "o"}.find(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	early, err := pgtest.Conn(t, dsn).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	publish(t, early, "early")
	late, err := pgtest.Conn(t, dsn).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	publish(t, late, "late")
	if err := late.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := shown(t, f, conn, "payload"); !slices.Equal(got, []string{`"late"`}) {
		t.Errorf("shows %q", got)
	}
	if err := early.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := shown(t, f, conn, "payload"); !slices.Equal(got, []string{`"early"`}) {
		t.Errorf("then shows %q", got)
	}
	if got := shown(t, f, conn, "payload"); len(got) > 0 {
		t.Errorf("shows %q again", got)
	}
}

func TestTailPagesThroughMoreThanAPage(t *testing.T) {
	t.Parallel()
	_, conn := installed(t)
	const n = 2*tailPage + 1
	if _, err := conn.Exec(t.Context(), `select tide.outbox_create('o')`); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), `select tide.outbox_publish('o', 's', to_jsonb(i)) from generate_series(1, $1::int) i`, n); err != nil {
		t.Fatal(err)
	}
	f, err := tailing{name: "o", since: time.Hour}.find(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	got := shown(t, f, conn, "id")
	if distinct := slices.Compact(slices.Clone(got)); len(got) != n || len(distinct) != n {
		t.Errorf("shows %d events, %d of them distinct, want %d", len(got), len(distinct), n)
	}
}

func TestTailOfAnInboxShowsEachMessageOnce(t *testing.T) {
	t.Parallel()
	dsn, conn := installed(t)
	if _, err := conn.Exec(t.Context(), `select tide.inbox_create('i')`); err != nil {
		t.Fatal(err)
	}
	const insert = `insert into tide.i_inbox (inbox_id, event_id, source, stream, op, event_type, payload)
		select id, $1::text, 's', 's', 'insert', 't', '{}' from tide.inbox`
	f, err := tailing{name: "i"}.find(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	early, err := pgtest.Conn(t, dsn).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := early.Exec(t.Context(), insert, "early"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), insert, "late"); err != nil {
		t.Fatal(err)
	}
	if got := shown(t, f, conn, "event_id"); !slices.Equal(got, []string{"late"}) {
		t.Errorf("shows %q", got)
	}
	if err := early.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Marking a message changes its row, and must not show it again.
	if _, err := conn.Exec(t.Context(), `select tide.inbox_mark_processed('i', 'late'::text)`); err != nil {
		t.Fatal(err)
	}
	if got := shown(t, f, conn, "event_id"); !slices.Equal(got, []string{"early"}) {
		t.Errorf("then shows %q", got)
	}
}
