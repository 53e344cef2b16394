package schema_test

import (
	osexec "os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/throwaway"
	"github.com/pg-tide/pg-tide/schema"
)

// everyRow lists what users and relays have put there, and the sequences: the
// columns that the first version had.
const everyRow = `
	select 'node ' || (n.singleton, n.database_id, n.incarnation, n.floor_id, n.installed_at)::text as line from tide.node n
	union all select 'outbox ' || (o.id, o.name, o.enabled, o.retention, o.part, o.created_at)::text from tide.outbox o
	union all select 'part ' || (p.part, p.outbox_id, p.used_since)::text from tide.outbox_part p
	union all select 'publisher ' || p::text from tide.outbox_publisher p
	union all select 'event ' || e::text from tide.outbox_event e
	union all select 'inbox ' || i::text from tide.inbox i
	-- Released versions have no parts.
	union all select 'message ' || (to_jsonb(m) - case when to_jsonb(m) ->> 'lease_token' is null then '{part,lease_token,leased_by}' else '{part}' end::text[])::text from tide.inbox_message m
	union all select 'pipeline ' || (p.id, p.name, p.direction, p.outbox_id, p.inbox_id, p.config, p.enabled, p.version, p.created_at, p.updated_at)::text from tide.pipeline p
	union all select 'owner ' || (o.pipeline_id, o.relay_id, o.fence, o.since)::text from tide.pipeline_owner o
	union all select 'position ' || (to_jsonb(p) - 'mark')::text from tide.pipeline_position p
	union all select 'state ' || s::text from tide.pipeline_state s
	union all select 'relay ' || r::text from tide.relay_instance r
	union all select 'dead letter ' || (to_jsonb(d) - 'holds_key')::text from tide.dead_letter d
	union all select 'sequence ' || s.schemaname || '.' || s.sequencename || ' ' || coalesce(s.last_value::text, '')
		from pg_sequences s where s.schemaname = 'tide'
	order by line`

// everyPart lists where messages are and what the inboxes remember.
const everyPart = `
	select 'rotation ' || r::text as line from tide.inbox_rotation r
	union all select 'inbox part ' || p::text from tide.inbox_part p
	union all select 'memory ' || m::text from tide.inbox_memory m
	union all select format('message %s in part %s', m.id, m.part) from tide.inbox_message m
	order by line`

func TestDumpAndRestoreKeepRowsConfigurationAndPositions(t *testing.T) {
	dump, restore := dumpTools(t)
	source := pgtest.Default(t.Context())
	ways := map[string]func(testing.TB, int) *pgx.Conn{"command": embeddedAlone, "extension": extension}
	for way, install := range ways {
		t.Run(way, func(t *testing.T) {
			from := install(t, source)
			fill(t, from)
			makeRole(t, from, "app_publisher")
			exec(t, from, `select tide.outbox_grant_publish('order_events', 'app_publisher')`)
			exec(t, from, `insert into tide.relay_instance (id, host, pid, version) values (gen_random_uuid(), 'h', 1, '1')`)
			exec(t, from, `insert into tide.pipeline_state (pipeline_id, state) select id, 'running' from tide.pipeline`)
			exec(t, from, `insert into tide."payment_triggers_inbox" (inbox_id, part, event_id, source, stream, op, event_type, payload, processed_at)
				select tide.inbox_id('payment_triggers'), part, 'in part ' || part, 's', 's', 'o', 't', '{}', now() from generate_series(1, 2) part`)
			exec(t, from, `delete from tide."payment_triggers_inbox" where event_id = 'in part 2'`)
			want := append(column[string](t, from, everyRow), column[string](t, from, everyPart)...)
			file := filepath.Join(t.TempDir(), "dump")
			tool(t, dump, "--format=custom", "--file="+file, "--dbname="+from.Config().ConnString())
			pgtest.Each(t, []int{source, pgtest.Newest}, func(t *testing.T, major int) {
				placeExtension(t, major)
				// The roles belong to the cluster; a dump of a database has none.
				makeRole(t, embeddedAlone(t, major), "app_publisher")
				to := pgtest.Conn(t, pgtest.Database(t, major))
				tool(t, restore, "--exit-on-error", "--dbname="+to.Config().ConnString(), file)
				got := append(column[string](t, to, everyRow), column[string](t, to, everyPart)...)
				if strings.Join(got, "\n") != strings.Join(want, "\n") {
					t.Errorf("rows after the restore:\n%s\nbefore:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
				}
				if major == source {
					sameCatalog(t, "restored", catalog(t, to), catalog(t, from))
				}
				afterRestore(t, to)
			})
		})
	}
}

// afterRestore shows that work goes on where it stopped.
func afterRestore(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	if err := schema.Verify(t.Context(), conn); err != nil {
		t.Error(err)
	}
	exec(t, conn, `select tide.outbox_publish('order_events', '{"n": 21}'::jsonb)`)
	if n := value[int](t, conn, `select count(distinct id) from tide.outbox_event`); n != 21 {
		t.Errorf("%d events after publishing the 21st", n)
	}
	exec(t, conn, `set role app_publisher; select tide.outbox_publish('order_events', '{"n": 22}'::jsonb); reset role`)
	exec(t, conn, `select tide.outbox_create('more'), tide.inbox_create('more')`)
	exec(t, conn, `select tide.outbox_publish('more', '{}'::jsonb)`)
	receive(t, conn, "payment_triggers", 21)
	if n := value[int](t, conn, `select count(*) from tide.inbox_pending('payment_triggers')`); n != 19 {
		t.Errorf("%d messages are pending, want 19: 21 less one processed and one delayed", n)
	}
	if err := schema.Install(t.Context(), conn); err != nil {
		t.Errorf("installing over the restored: %v", err)
	}
}

// makeRole makes a role of the cluster when it is missing.
func makeRole(t *testing.T, conn *pgx.Conn, name string) {
	t.Helper()
	if !value[bool](t, conn, `select to_regrole($1) is not null`, name) {
		exec(t, conn, `create role `+name)
	}
}

func embeddedAlone(t testing.TB, major int) *pgx.Conn {
	t.Helper()
	conn := pgtest.Conn(t, pgtest.Database(t, major))
	if err := schema.Install(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	return conn
}

func dumpTools(t *testing.T) (dump, restore string) {
	t.Helper()
	major := pgtest.Default(t.Context())
	dump, dumps := throwaway.Tool(t.Context(), "pg_dump", major)
	restore, restores := throwaway.Tool(t.Context(), "pg_restore", major)
	if !dumps || !restores {
		t.Skip("there is no pg_dump on this machine, and the fetched servers come without it")
	}
	return dump, restore
}

func tool(t *testing.T, program string, arguments ...string) {
	t.Helper()
	out, err := osexec.CommandContext(t.Context(), program, arguments...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(program), arguments[0], err, out)
	}
}
