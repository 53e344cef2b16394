package catalog

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const (
	relayA = "aaaaaaaa-0000-0000-0000-000000000000"
	relayB = "bbbbbbbb-0000-0000-0000-000000000000"
)

func open(t *testing.T, dsn, relay string) *Catalog {
	t.Helper()
	c, err := Open(t.Context(), Options{ConnString: dsn, Relay: RelayInfo{ID: relay, Host: "h", PID: 1, Version: "test"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func newDatabase(t *testing.T, major int) (dsn string, pool *pgxpool.Pool) {
	t.Helper()
	dsn = schematest.Database(t, major)
	return dsn, pgtest.Pool(t, dsn)
}

func isSuperseded(err error) bool {
	verdict, _ := delivery.VerdictOf(err)
	return verdict == delivery.VerdictSuperseded && errors.Is(err, ErrSuperseded)
}

// eventually polls until the condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for !condition() {
		if !pause(ctx, 5*time.Millisecond) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}
