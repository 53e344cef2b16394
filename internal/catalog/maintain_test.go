package catalog

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

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
		for _, want := range []string{"prepared", "rotated"} {
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

func TestARetentionOfManyYearsIsLong(t *testing.T) {
	t.Parallel()
	if d := seconds(1e12); d < 100*365*24*time.Hour {
		t.Errorf("it is %v", d)
	}
}
