package catalog

import (
	"strings"
	"testing"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
	"github.com/pg-tide/pg-tide/internal/throwaway"
)

func TestTheServersDeathIsSaidInASentenceAndSurvived(t *testing.T) {
	t.Parallel()
	server := pgtest.Own(t, throwaway.Options{})
	dsn := server.DSN("postgres")
	if err := schematest.Install(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
	unowned(t, pgtest.Pool(t, dsn), "o1")
	c := open(t, dsn, relayA)
	heartbeat(t, c)
	for range 2 {
		if err := server.Kill(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 3 { // whatever is left in the pool, and then new connections
			_, err := c.Registry().Heartbeat(t.Context())
			if err == nil || !strings.Contains(err.Error(), `database "postgres" at 127.0.0.1`) {
				t.Errorf("a heartbeat without a server: %v", err)
			}
		}
		if err := server.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the relay is back", func() bool {
			specs, err := c.Registry().Heartbeat(t.Context())
			return err == nil && len(specs) == 1
		})
	}
}
