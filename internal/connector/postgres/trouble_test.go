package postgres_test

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
)

// newRole makes a login role of the test's own that goes with it.
func newRole(t testing.TB, pool *pgxpool.Pool, rights string) (name string) {
	t.Helper()
	schematest.Query(t, pool, `select 'r_' || replace(gen_random_uuid()::text, '-', '')`, nil, &name)
	schematest.Exec(t, pool, strings.ReplaceAll(`create role ROLE login password 'pw'; `+rights, "ROLE", name))
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if _, err := pool.Exec(ctx, `drop owned by `+name+` cascade`); err != nil {
			t.Error(err)
		}
		if _, err := pool.Exec(ctx, `drop role `+name); err != nil {
			t.Error(err)
		}
	})
	return name
}

// grants are those that docs/database-to-database.md tells.
var grants = map[string]string{
	"inbox": `grant usage on schema tide to ROLE;
		grant execute on function tide.inbox_id(text), tide.inbox_enter(integer, text[], timestamptz, timestamptz), tide.inbox_leave(integer, xid8) to ROLE;
		grant usage on sequence tide.inbox_message_id_seq to ROLE;
		grant insert on tide."target_inbox" to ROLE;`,
	"outbox": `grant execute on function tide.outbox_receive(text, uuid[], jsonb[], text[], jsonb[], text[], text[]) to ROLE;
		grant select (event_id), insert (outbox_id, event_id) on tide.outbox_received to ROLE;
		select tide.outbox_grant_publish('target', 'ROLE');`,
}

func TestTheDocumentedRightsAreEnoughAndLessIsNamed(t *testing.T) {
	t.Parallel()
	for _, e := range ends {
		for _, major := range []int{pgtest.Oldest, pgtest.Newest} {
			dsn, pool := shared(t, e, major)
			sink := e.sink(t, values{"url": as(t, dsn, newRole(t, pool, grants[e.kind]), "pw")})
			open(t, sink)
			batch := sinktest.Envelopes("target", 1, 10)
			for range 2 {
				if err := send(t.Context(), sink, batch); err != nil {
					t.Fatalf("%s, PostgreSQL %d: %v", e.kind, major, err)
				}
			}
			if n := len(e.all(t, pool)); n != len(batch) {
				t.Errorf("%d events are stored, want %d", n, len(batch))
			}
			stranger := newRole(t, pool, ``)
			err := e.sink(t, values{"url": as(t, dsn, stranger, "pw")}).Open(limited(t))
			wantError(t, err, delivery.VerdictMisconfigured, stranger, "may not use the schema tide", "grant tide_relay to")
			reader := newRole(t, pool, `grant usage on schema tide to ROLE`)
			err = e.sink(t, values{"url": as(t, dsn, reader, "pw")}).Open(limited(t))
			wantError(t, err, delivery.VerdictMisconfigured, reader, "has no right: permission denied", "grant tide_relay to")
		}
	}
}

func TestWhatIsWrongWithTheTargetIsSaidInWords(t *testing.T) {
	t.Parallel()
	for _, e := range ends {
		dsn, pool := shared(t, e, 0)
		empty := pgtest.Database(t, 0)
		role := newRole(t, pool, `grant tide_relay to ROLE; alter role ROLE set default_transaction_read_only = on`)
		u, err := url.Parse(dsn)
		if err != nil {
			t.Fatal(err)
		}
		other := func(change func(u *url.URL)) string {
			changed := *u
			change(&changed)
			return changed.String()
		}
		for name, c := range map[string]struct {
			url, target string
			verdict     delivery.Verdict
			words       []string
		}{
			"wrong password": {as(t, dsn, role, "wrong"), "target", delivery.VerdictMisconfigured, []string{"password of role", "was not accepted", `check the password in key "url" or the key password`}},
			"no database":    {other(func(u *url.URL) { u.Path = "/nowhere" }), "target", delivery.VerdictMisconfigured, []string{`database "nowhere"`, "does not exist"}},
			"no schema":      {empty, "target", delivery.VerdictMisconfigured, []string{"the schema tide is not installed", "pg-tide install"}},
			"nothing there":  {dsn, "targte", delivery.VerdictMisconfigured, []string{e.kind + ` "targte" does not exist`}},
			"read-only":      {as(t, dsn, role, "pw"), "target", delivery.VerdictRetry, []string{"is read-only", "point key \"url\" at the primary"}},
			"nobody listens": {other(func(u *url.URL) { u.Host = "127.0.0.1:1" }), "target", delivery.VerdictRetry, []string{"cannot be reached", "refused"}},
			"no TLS there":   {other(func(u *url.URL) { u.RawQuery = "sslmode=verify-full" }), "target", delivery.VerdictRetry, []string{"cannot be reached", "TLS", "check sslmode"}},
			"unknown host":   {other(func(u *url.URL) { u.Host = "nowhere.invalid:5432" }), "target", delivery.VerdictRetry, []string{"nowhere.invalid"}},
		} {
			t.Run(e.kind+" "+name, func(t *testing.T) {
				wantError(t, e.sink(t, values{"url": c.url}, c.target).Open(limited(t)), c.verdict, c.words...)
			})
		}
	}
}

func TestWhatIsWrongWithTheConfigurationIsSaidWithoutThePassword(t *testing.T) {
	t.Parallel()
	for text, words := range map[string][]string{
		"host=h dbname=d password=hunter2":         {`key "url"`, "postgres://role@host"},
		"postgres://u:hunter2@/d":                  {"names no host"},
		"postgres://h/d?password=hunter2":          {"names no role"},
		"postgres://u:hunter2@h":                   {"names no database"},
		"postgres://u:hunter2@h/d?sslmode=perhaps": {`key "url" cannot be understood`, "sslmode"},
	} {
		_, err := ends[0].newSink(values{"url": text})
		if err == nil {
			t.Fatalf("%s was accepted", text)
		}
		for _, word := range words {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%s: the sentence lacks %q: %v", text, word, err)
			}
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the sentence shows the password: %v", text, err)
		}
	}
}

// The far end may be dropped, or made anew, between two batches.
func TestATargetThatIsDroppedAndMadeAgainIsFound(t *testing.T) {
	t.Parallel()
	for _, e := range ends {
		dsn, pool := shared(t, e, 0)
		sink := e.sink(t, values{"url": dsn})
		open(t, sink)
		if err := send(t.Context(), sink, sinktest.Envelopes("target", 1, 5)); err != nil {
			t.Fatal(err)
		}
		schematest.Exec(t, pool, `select tide.`+e.kind+`_drop('target')`)
		wantError(t, send(t.Context(), sink, sinktest.Envelopes("target", 6, 5)), delivery.VerdictMisconfigured)
		schematest.Exec(t, pool, e.create)
		if err := sink.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := send(t.Context(), sink, sinktest.Envelopes("target", 6, 5)); err != nil {
			t.Fatal(err)
		}
		if n := len(e.all(t, pool)); n != 5 {
			t.Errorf("%s: %d events are in the new one, want 5", e.kind, n)
		}
	}
}

// What a restore or a promotion takes back is the end of what was committed:
// the mark from before still holds, and the later one does not.
func TestATargetThatLostWhatItHadAcknowledgedIsNoticed(t *testing.T) {
	t.Parallel()
	for _, e := range ends {
		dsn, pool := shared(t, e, 0)
		sink := e.sink(t, values{"url": dsn})
		open(t, sink)
		ctx := limited(t)
		if err := send(ctx, sink, sinktest.Envelopes("target", 1, 10)); err != nil {
			t.Fatal(err)
		}
		before := sink.Mark()
		if err := send(ctx, sink, sinktest.Envelopes("target", 11, 10)); err != nil {
			t.Fatal(err)
		}
		after := sink.Mark()
		prove := func(mark string) delivery.Proof {
			t.Helper()
			proof, err := sink.Prove(ctx, mark)
			if err != nil {
				t.Fatal(err)
			}
			return proof
		}
		if !prove(before).Holds || !prove(after).Holds || prove(`{"stream": "ORDERS"}`) != (delivery.Proof{}) {
			t.Errorf("%s: marks of what is there do not hold, or that of another sink does", e.kind)
		}
		conn := pgtest.Conn(t, dsn)
		if _, err := conn.Exec(ctx, e.lose); err != nil {
			t.Fatal(err)
		}
		if n := len(e.all(t, pool)); n != 10 {
			t.Fatalf("%d events are left, want 10", n)
		}
		if proof := prove(after); proof.Holds || !strings.Contains(proof.Lost, e.kind+` "target" of database`) {
			t.Errorf("%s: the loss is not noticed: %+v", e.kind, proof)
		}
		if !prove(before).Holds {
			t.Errorf("%s: the mark from before the loss does not hold", e.kind)
		}
		restricted := e.sink(t, values{"url": as(t, dsn, newRole(t, pool, grants[e.kind]), "pw")})
		open(t, restricted)
		if proof, err := restricted.Prove(ctx, after); err != nil || proof != (delivery.Proof{}) {
			t.Errorf("%s: a role that may not look concludes %+v, %v", e.kind, proof, err)
		}
	}
}
