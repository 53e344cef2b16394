//go:build unix

package schema_test

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/schema"
)

// TestAClaimThatFellBehindLooksAgain: a session stands still between its look
// and the locks, while another takes and completes all that it saw, and as many
// arrive. It is stopped a little later each time, to hit that moment.
func TestAClaimThatFellBehindLooksAgain(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DatabaseFrom(t, pgtest.Newest, "embedded", func(dsn string) error {
		return withConn(t.Context(), dsn, schema.Install)
	})
	slow, fast := pgtest.Conn(t, dsn), pgtest.Conn(t, dsn)
	exec(t, fast, `select tide.inbox_create('i')`)
	pid := value[int](t, slow, `select pg_backend_pid()`)
	for round := range 250 {
		if err := settleAndFill(t.Context(), fast); err != nil {
			t.Fatal(err)
		}
		started, ended := make(chan struct{}), make(chan error, 1)
		var got int
		go func() {
			close(started)
			ended <- slow.QueryRow(t.Context(), `select count(*) from tide.inbox_claim('i', 'slow', 100)`).Scan(&got)
		}()
		<-started
		for begun := time.Now(); time.Since(begun) < time.Duration(round%125)*30*time.Microsecond; { //nolint:revive // a claim takes some milliseconds
		}
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		// Where it stopped within the server's own locks, the other waits for it.
		patience, cancel := context.WithTimeout(t.Context(), time.Second)
		overtook := settleAndFill(patience, fast)
		cancel()
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if overtook != nil {
			fast = pgtest.Conn(t, dsn)
			continue
		}
		if got == 0 {
			t.Fatalf("round %d: a claim gave nothing while 500 messages waited", round)
		}
	}
}

// settleAndFill takes and completes all that it can have, and lets 500 messages arrive.
func settleAndFill(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `
		with taken as materialized (select id, lease_token from tide.inbox_claim('i', 'fast', 2000))
		select tide.inbox_complete('i', t.lease_token, array_agg(t.id)) from taken t group by t.lease_token`)
	if err == nil {
		_, err = conn.Exec(ctx, `
			insert into tide.i_inbox (inbox_id, part, event_id, source, stream, op, event_type, payload)
			select i.id, 0, gen_random_uuid(), '/s', 'o', 'insert', 't', '1' from tide.inbox i cross join generate_series(1, 500) where i.name = 'i'`)
	}
	return err
}
