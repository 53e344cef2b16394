package schema_test

import (
	"context"
	"errors"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/schema"
)

// asRole gives a connection to the database of conn that acts as a new login
// role, made with the given clauses.
func asRole(t testing.TB, conn *pgx.Conn, clauses string) (name string, as *pgx.Conn) {
	t.Helper()
	name = "r_" + strings.ReplaceAll(value[string](t, conn, `select gen_random_uuid()::text`), "-", "")
	exec(t, conn, `create role `+name+` login password 'pw' `+clauses)
	as = pgtest.Conn(t, loginURL(conn, name))
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		_ = as.Close(ctx)
		if _, err := conn.Exec(ctx, `drop owned by `+name+` cascade`); err != nil {
			t.Errorf("drop what %s owns: %v", name, err)
		}
	})
	return name, as
}

func loginURL(conn *pgx.Conn, role string) string {
	c := conn.Config()
	u := url.URL{Scheme: "postgres", User: url.UserPassword(role, "pw"), Path: "/" + c.Database}
	q := url.Values{"host": {c.Host}, "port": {strconv.Itoa(int(c.Port))}, "sslmode": {"disable"}}
	u.RawQuery = q.Encode()
	return u.String()
}

// denied fails unless the statement is refused for want of rights.
func denied(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	_, err := conn.Exec(t.Context(), sql)
	if e := pgError(err); e == nil || e.Code != "42501" {
		t.Errorf("%s: %v, want it refused", sql, err)
	}
}

func TestNothingIsGrantedToPublic(t *testing.T) {
	pgtest.Each(t, pgtest.All(), func(t *testing.T, major int) {
		conn := embedded(t, major)
		if open := column[string](t, conn, `
			select p.oid::regprocedure::text from pg_proc p
			where p.pronamespace = 'tide'::regnamespace and has_function_privilege('public', p.oid, 'execute')
			union all
			select c.relname from pg_class c
			where c.relnamespace = 'tide'::regnamespace and c.relkind in ('r', 'p', 'v')
				and has_table_privilege('public', c.oid, 'select, insert, update, delete')`); len(open) > 0 {
			t.Errorf("open to everybody: %q", open)
		}
		if bare := column[string](t, conn, `
			select p.oid::regprocedure::text from pg_proc p
			where p.pronamespace = 'tide'::regnamespace
				and (obj_description(p.oid, 'pg_proc') is null
					or p.proname not in ('inbox_pending', 'inbox_memory_key', 'outbox_publish')
						and not coalesce('search_path=pg_catalog, pg_temp' = any(p.proconfig), false))`); len(bare) > 0 {
			t.Errorf("without a comment or a pinned search_path: %q", bare)
		}
	})
}

func TestEachRoleMayDoItsWorkAndNoMore(t *testing.T) {
	pgtest.Each(t, []int{pgtest.Oldest, pgtest.Newest}, func(t *testing.T, major int) {
		conn := embeddedAlone(t, major)
		fill(t, conn)
		exec(t, conn, `select tide.relay_set_outbox('secret', 'order_events', '{"sink_type": "nats", "url": "nats://u:hunter2@h", "password": "hunter2"}')`)
		may := map[string][]string{
			"publish":   {`select tide.outbox_publish('order_events', '{}'::jsonb)`, `select tide.outbox_publish('order_events', 'orders', '{}', key => 'k')`, `select tide.outbox_publish_many('order_events', '{1,2}')`},
			"read":      {`select * from tide.outbox_event`, `select * from tide.relay_status`, `select tide.outbox_status()`, `select tide.inbox_status()`, `select * from tide.dead_letters`, `select tide.relay_list_configs()`, `select tide.relay_get_config('secret')`},
			"secrets":   {`select config from tide.pipeline`},
			"work":      {`select * from tide.inbox_pending('payment_triggers') limit 1`, `select tide.inbox_mark_failed('payment_triggers', 'e4', 'x')`, `select tide.inbox_mark_processed('payment_triggers', 'e3')`},
			"look":      {`select * from tide."payment_triggers_inbox"`},
			"operate":   {`select tide.relay_disable('secret')`, `select tide.relay_enable('secret')`, `select tide.outbox_disable('order_events'), tide.outbox_enable('order_events')`, `select tide.inbox_replay('payment_triggers', array[1])`, `select tide.dead_letter_retry('orders-for-payments', array[1])`},
			"configure": {`select tide.relay_set_outbox('new', 'order_events', '{"sink_type": "nats", "url": "nats://h"}')`, `select tide.relay_delete('new')`, `select tide.outbox_create('new_outbox')`, `select tide.outbox_drop('new_outbox')`, `select tide.inbox_create('new_inbox')`, `select tide.inbox_drop('new_inbox')`, `select tide.outbox_grant_publish('order_events', 'tide_reader')`, `select tide.outbox_revoke_publish('order_events', 'tide_reader')`},
			"relay": {`select tide.node_check(1, 1)`, `select config from tide.pipeline`, `insert into tide.relay_instance (id, host, pid, version) values (gen_random_uuid(), 'h', 1, 'v')`,
				`update tide.pipeline_owner set fence = fence`, `select 1 from tide.pipeline_owner for share`,
				`insert into tide."payment_triggers_inbox" (inbox_id, event_id, source, stream, op, event_type, payload) values (tide.inbox_id('payment_triggers'), 'e1', 's', 's', 'o', 't', '{}') on conflict do nothing`},
			"forge": {`insert into tide.outbox_event (id, part, stream, op, payload, headers) values (1, 1, 's', 'o', '{}', '{}')`, `insert into tide.outbox_event_1 (part, stream, op, payload, headers) values (1, 's', 'o', '{}', '{}')`, `delete from tide.outbox_event`, `truncate tide.outbox_event`, `update tide.pipeline set enabled = false`},
		}
		allowed := map[string]string{
			"tide_admin": "publish read secrets look work operate configure relay", "tide_operator": "read look operate", "tide_relay": "relay look secrets",
			"tide_publisher": "publish", "tide_consumer": "look work", "tide_reader": "read look", "": "",
		}
		for role, duties := range allowed {
			t.Run("role "+role, func(t *testing.T) {
				clauses := ""
				if role != "" {
					clauses = "in role " + role
				}
				_, as := asRole(t, conn, clauses)
				for duty, statements := range may {
					if strings.Contains(" "+duties+" ", " "+duty+" ") {
						for _, sql := range statements {
							exec(t, as, sql)
						}
					} else if !overlaps(duty, role) {
						for _, sql := range statements {
							denied(t, as, sql)
						}
					}
				}
			})
		}
	})
}

// overlaps says that some statements of a duty belong to a role's own duty too.
func overlaps(duty, role string) bool {
	return role == "tide_consumer" && duty == "read" || role == "tide_relay" && duty == "read"
}

func TestReaderSeesNoSecrets(t *testing.T) {
	conn := embedded(t, 0)
	exec(t, conn, `select tide.outbox_create('o')`)
	exec(t, conn, `select tide.relay_set_outbox('p', 'o', '{"sink_type": "nats", "url": "nats://u:hunter2@h:1,nats://hunter2@h", "password": "hunter2", "token": "${env:TOKEN}", "nkey_seed": "hunter2"}')`)
	_, as := asRole(t, conn, "in role tide_reader")
	shown := value[string](t, as, `select tide.relay_get_config('p')::text || tide.relay_list_configs()::text`)
	if strings.Contains(shown, "hunter2") || !strings.Contains(shown, "${env:TOKEN}") || !strings.Contains(shown, "nats://u:***@h:1,nats://***@h") {
		t.Errorf("the reader sees %s", shown)
	}
	denied(t, as, `select config from tide.pipeline`)
	denied(t, as, `select tide.outbox_publish('o', '{}'::jsonb)`)
}

func TestPublishingMayBeGrantedForOneOutbox(t *testing.T) {
	conn := embedded(t, 0)
	exec(t, conn, `select tide.outbox_create('mine'), tide.outbox_create('other')`)
	name, as := asRole(t, conn, "")
	denied(t, as, `select tide.outbox_publish('mine', '{}'::jsonb)`)
	if !value[bool](t, conn, `select tide.outbox_grant_publish('mine', $1::text::regrole)`, name) {
		t.Error("the first grant changed nothing")
	}
	if value[bool](t, conn, `select tide.outbox_grant_publish('mine', $1::text::regrole)`, name) {
		t.Error("the second grant changed something")
	}
	exec(t, as, `select tide.outbox_publish('mine', 'stream', '{}')`)
	_, err := as.Exec(t.Context(), `select tide.outbox_publish('other', '{}'::jsonb)`)
	expectError(t, err, name, `"other"`)
	if e := pgError(err); e.Code != "42501" || !strings.Contains(e.Hint, "outbox_grant_publish") {
		t.Errorf("%s, hint %s", e.Code, e.Hint)
	}
	if !value[bool](t, conn, `select tide.outbox_revoke_publish('mine', $1::text::regrole)`, name) {
		t.Error("the revocation changed nothing")
	}
	denied(t, as, `select tide.outbox_publish('mine', '{}'::jsonb)`)
	// Nothing is left that would keep the role from being dropped.
	exec(t, conn, `create role passing`)
	exec(t, conn, `select tide.outbox_grant_publish('mine', 'passing'), tide.outbox_grant_publish('other', 'passing')`)
	exec(t, conn, `select tide.outbox_revoke_publish('mine', 'passing'), tide.outbox_revoke_publish('other', 'passing')`)
	exec(t, conn, `drop role passing`)
}

// The creator of the trusted extension is no superuser; the database's owner
// is another one. Both may use all of it and read every relation,
// as a dump does; the creator may upgrade it.
func TestTrustedExtensionServesItsCreatorAndTheDatabasesOwner(t *testing.T) {
	pgtest.Each(t, []int{pgtest.Oldest, pgtest.Newest}, func(t *testing.T, major int) {
		placeExtension(t, major)
		conn := pgtest.Conn(t, pgtest.Database(t, major))
		creator, asCreator := asRole(t, conn, "")
		owner, asOwner := asRole(t, conn, "")
		exec(t, conn, `grant create on database `+conn.Config().Database+` to `+creator)
		exec(t, conn, `alter database `+conn.Config().Database+` owner to `+owner)
		t.Cleanup(func() {
			_, _ = conn.Exec(context.WithoutCancel(t.Context()), `alter database `+conn.Config().Database+` owner to postgres`)
		})
		exec(t, asCreator, `create extension pg_tide version '`+schema.Released()[0]+`'`)
		fill(t, asCreator)
		upgraded(t, asCreator)
		exec(t, asOwner, `select tide.outbox_create('of_owner'), tide.outbox_publish('of_owner', '{}'::jsonb)`)
		exec(t, asOwner, `select * from tide.relay_status`)
		exec(t, asOwner, `select tide.inbox_mark_processed('payment_triggers', 'e5')`)
		for _, table := range column[string](t, conn, `select c.oid::regclass::text from pg_class c where c.relnamespace = 'tide'::regnamespace and c.relkind in ('r', 'p', 'v', 'S')`) {
			exec(t, asOwner, `select * from `+table)
			exec(t, asCreator, `select * from `+table)
		}
		_, stranger := asRole(t, conn, "")
		denied(t, stranger, `select tide.outbox_publish('order_events', '{}'::jsonb)`)
		if _, err := schema.Uninstall(t.Context(), asCreator, schema.Options{DropData: true}); err != nil {
			t.Error(err)
		}
	})
}

func upgraded(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	if err := schema.Install(t.Context(), conn); err != nil {
		t.Fatalf("upgrade: %v", err)
	}
	if err := schema.Verify(t.Context(), conn); err != nil {
		t.Fatalf("after the upgrade: %v", err)
	}
}

func TestAnOwnerWithoutSuperuserInstallsByCommand(t *testing.T) {
	conn := pgtest.Conn(t, pgtest.Database(t, 0))
	creator, as := asRole(t, conn, "")
	exec(t, conn, `grant create on database `+conn.Config().Database+` to `+creator)
	if err := schema.Install(t.Context(), as); err != nil {
		t.Fatal(err)
	}
	fill(t, as)
	other := pgtest.Conn(t, pgtest.Database(t, 0))
	_, poor := asRole(t, other, "")
	err := schema.Install(t.Context(), poor)
	expectError(t, err, "create schema tide", "grant create on database")
	if pgError(err) == nil {
		t.Errorf("%v does not wrap the database's error", err)
	}
}

func pgError(err error) *pgconn.PgError {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e
	}
	return nil
}
