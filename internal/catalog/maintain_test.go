package catalog

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
)

func TestMaintainingWorksWhateverTheDefaultIsolation(t *testing.T) {
	t.Parallel()
	for _, major := range []int{pgtest.Oldest, pgtest.Newest} {
		dsn, pool := newDatabase(t, major)
		schematest.Outbox(t, pool, "o")
		schematest.Publish(t, pool, "o", "k", "{}")
		schematest.Exec(t, pool, "update tide.outbox_part set used_since = now() - interval '1 day'")
		config, err := pgx.ParseConfig(dsn)
		if err != nil {
			t.Fatal(err)
		}
		schematest.Exec(t, pool, "alter database "+pgx.Identifier{config.Database}.Sanitize()+" set default_transaction_isolation = 'serializable'")
		c := open(t, dsn, relayA)
		for _, want := range []string{"prepared", "announced", "rotated"} {
			steps, err := c.Maintain(t.Context())
			if err != nil || len(steps) != 1 || steps[0].Outbox != "o" || steps[0].Action != want {
				t.Errorf("PostgreSQL %d: did %+v, %v, want %s", major, steps, err, want)
			}
		}
		if steps, err := c.Maintain(t.Context()); err != nil || len(steps) != 0 {
			t.Errorf("PostgreSQL %d: did %+v, %v", major, steps, err)
		}
	}
}

func TestAnInboxWorksWhateverTheDefaultIsolation(t *testing.T) {
	t.Parallel()
	dsn, _, target, ids := newInbox(t, "i")
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	admin := pgtest.Conn(t, dsn)
	for _, sql := range []string{
		"update tide.inbox_part set opened_at = '2000-01-01' where opened_at is not null",
		"alter database " + pgx.Identifier{config.Database}.Sanitize() + " set default_transaction_isolation = 'repeatable read'",
	} {
		if _, err := admin.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	c := open(t, dsn, relayA)
	for i, want := range []int{2, 1} {
		if added, err := c.InsertInbox(t.Context(), target, incoming([][]string{{"a", "b"}, {"b", "c"}}[i]...)); err != nil || added != want {
			t.Errorf("batch %d: %d added, %v", i, added, err)
		}
	}
	if n := len(ids()); n != 3 {
		t.Errorf("%d are there", n)
	}
	if step, err := c.MaintainInboxes(t.Context()); err != nil || step.Action != "opened a part" || step.Inbox != "i" {
		t.Errorf("maintaining did %+v, %v", step, err)
	}
	bad := incoming("d", "e")
	bad[1].Payload = []byte("{")
	var partial *delivery.Partial
	if _, err := c.InsertInbox(t.Context(), target, bad); !errors.As(err, &partial) || partial.Failed[1] == nil {
		t.Errorf("a bad message: %v", err)
	}
}

func TestARetentionOfManyYearsIsLong(t *testing.T) {
	t.Parallel()
	if d := seconds(1e12); d < 100*365*24*time.Hour {
		t.Errorf("it is %v", d)
	}
}
