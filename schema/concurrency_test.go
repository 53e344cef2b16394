package schema_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/throwaway"
	"github.com/pg-tide/pg-tide/schema"
)

// together runs do in n goroutines, each with a connection of its own, and
// returns what they said.
func together(t *testing.T, dsns []string, do func(ctx context.Context, conn *pgx.Conn) error) []error {
	t.Helper()
	results := make([]error, len(dsns))
	var all sync.WaitGroup
	for i, dsn := range dsns {
		all.Go(func() { results[i] = withConn(t.Context(), dsn, do) })
	}
	all.Wait()
	return results
}

func repeated(dsn string, n int) []string {
	var all []string
	for range n {
		all = append(all, dsn)
	}
	return all
}

func TestInstallationsAtTheSameTimeAgree(t *testing.T) {
	server := pgtest.Own(t, throwaway.Options{})
	one, other := server.DSN("postgres"), server.DSN("template1")
	// Two databases of a cluster that has no roles yet, three installations in each.
	for i, err := range together(t, append(repeated(one, 3), repeated(other, 3)...), schema.Install) {
		if err != nil {
			t.Errorf("installation %d: %v", i, err)
		}
	}
	for _, dsn := range []string{one, other} {
		if err := withConn(t.Context(), dsn, schema.Verify); err != nil {
			t.Error(err)
		}
	}
}

func TestOneOfManyCreatorsWins(t *testing.T) {
	conn := embedded(t, 0)
	dsn := conn.Config().ConnString()
	for kind, sql := range map[string]string{
		"outbox":   `select tide.outbox_create('same')`,
		"inbox":    `select tide.inbox_create('same')`,
		"others":   `select tide.outbox_create('o' || pg_backend_pid())`,
		"pipeline": `select tide.relay_set_outbox('same', 'same', ` + natsSink + `)`,
	} {
		if kind == "pipeline" {
			exec(t, conn, `select tide.outbox_create_if_not_exists('same')`)
		}
		won := 0
		for _, err := range together(t, repeated(dsn, 8), func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, sql)
			return err
		}) {
			var e *pgconn.PgError
			switch {
			case err == nil:
				won++
			case !errors.As(err, &e) || e.Code != "42710":
				t.Errorf("%s: %v", kind, err)
			}
		}
		if want := map[string]int{"outbox": 1, "inbox": 1, "others": 8, "pipeline": 8}[kind]; won != want && kind != "outbox" {
			t.Errorf("%s: %d won, want %d", kind, won, want)
		}
	}
	unused := value[int](t, conn, `select count(*) from tide.outbox_part where outbox_id is null and used_since <> '-infinity'`)
	if unused != 0 {
		t.Errorf("%d partitions were lost", unused)
	}
	if got := value[string](t, conn, `select concat_ws(' ', count(*), count(distinct part)) from tide.outbox`); got != "9 9" {
		t.Errorf("outboxes and parts: %s", got)
	}
}

func TestCreatingAnOutboxDoesNotWaitForPublishers(t *testing.T) {
	conn := embedded(t, 0)
	exec(t, conn, `select tide.outbox_create('busy')`)
	publisher := pgtest.Conn(t, conn.Config().ConnString())
	exec(t, publisher, `begin`)
	exec(t, publisher, `select tide.outbox_publish('busy', '{}'::jsonb)`)
	exec(t, conn, `set lock_timeout = '2s'`)
	exec(t, conn, `select tide.outbox_create('new'), tide.inbox_create('new'), tide.outbox_drop('new')`)
	exec(t, publisher, `select tide.outbox_publish('busy', '{}'::jsonb)`)
	exec(t, publisher, `commit`)
}

func TestRolesThatWereMissingGetTheirRightsLater(t *testing.T) {
	server := pgtest.Own(t, throwaway.Options{})
	admin := pgtest.Conn(t, server.DSN("postgres"))
	exec(t, admin, `create role installer login password 'pw'; create role service login password 'pw'`)
	exec(t, admin, `create database app owner installer`)
	app := pgtest.Conn(t, server.DSN("app"))

	config, err := pgx.ParseConfig(loginURL(app, "installer"))
	if err != nil {
		t.Fatal(err)
	}
	var notices []string
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { notices = append(notices, n.Message+" "+n.Hint) }
	installer, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = installer.Close(context.WithoutCancel(t.Context())) })
	if err := schema.Install(t.Context(), installer); err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprint(notices); !strings.Contains(text, "tide_publisher was not created") || !strings.Contains(text, "create role tide_publisher") {
		t.Errorf("notices: %s", text)
	}
	fill(t, installer)
	exec(t, installer, `select tide.outbox_grant_publish('order_events', 'service')`)
	service := pgtest.Conn(t, loginURL(app, "service"))
	exec(t, service, `select tide.outbox_publish('order_events', '{}'::jsonb)`)

	exec(t, admin, `create role tide_consumer; grant tide_consumer to service`)
	denied(t, service, `select * from tide.inbox_pending('payment_triggers')`)
	if err := schema.Install(t.Context(), installer); err != nil {
		t.Fatal(err)
	}
	exec(t, service, `select * from tide.inbox_pending('payment_triggers')`)
	exec(t, service, `select * from tide."payment_triggers_inbox"`)
}

// A relay's save has locked its row of pipeline_owner and not yet looked, by
// the foreign key, whether the pipeline is there.
func TestNobodyDeadlocksWithASave(t *testing.T) {
	for name, sql := range map[string]string{
		"delete": `select tide.relay_delete('p')`,
		"rewind": `select tide.relay_rewind('p', '-infinity')`,
		"pause":  `select tide.relay_disable('p')`,
		"change": `select tide.relay_set_outbox('p', 'o', ` + natsSink + `::jsonb || '{"batch_size": 7}')`,
	} {
		t.Run(name, func(t *testing.T) {
			conn := embedded(t, 0)
			exec(t, conn, `select tide.outbox_create('o'); select tide.relay_set_outbox('p', 'o', `+natsSink+`)`)
			relay := pgtest.Conn(t, conn.Config().ConnString())
			exec(t, relay, `begin`)
			exec(t, relay, `select from tide.pipeline_owner for share`)
			asking := pgtest.Conn(t, conn.Config().ConnString())
			asked := make(chan error, 1)
			go func() {
				_, err := asking.Exec(t.Context(), sql)
				asked <- err
			}()
			// Until it waits for the owner's row, or has needed none.
			var answer error
			ended := false
			for !ended && !value[bool](t, conn, `select pg_blocking_pids($1) <> '{}'`, asking.PgConn().PID()) {
				select {
				case answer = <-asked:
					ended = true
				default:
				}
			}
			if _, err := relay.Exec(t.Context(), `insert into tide.pipeline_position (pipeline_id, seq, snapshot, last_id, bound, floor_id, incarnation)
				select id, 1, pg_current_snapshot(), 0, pg_current_xact_id(), 0, 1 from tide.pipeline`); err != nil {
				t.Errorf("the save failed: %v", err)
			}
			exec(t, relay, `commit`)
			if !ended {
				answer = <-asked
			}
			if answer != nil {
				t.Errorf("%s failed: %v", sql, answer)
			}
		})
	}
}
