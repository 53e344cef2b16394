package outbox

import (
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pg-tide/pg-tide/internal/catalog"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/pipeline"
	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
	"github.com/pg-tide/pg-tide/internal/throwaway"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const relayID = "11111111-1111-1111-1111-111111111111"

// bus is a database with one outbox and a relay that owns its pipeline.
type bus struct {
	dsn     string
	pool    *pgxpool.Pool
	catalog *catalog.Catalog
	spec    pipeline.Spec
	// prepares says that transactions can be prepared on its server: then
	// publishers do not notify.
	prepares bool
}

func newBus(t *testing.T, major int) bus {
	t.Helper()
	return busOn(t, schematest.Database(t, major))
}

// newOwnBus is on a server of its own, for tests that are about xids or about
// preparing transactions, both of which belong to the server.
func newOwnBus(t *testing.T, major int, prepares bool) bus {
	t.Helper()
	prepared := "0"
	if prepares {
		prepared = "20"
	}
	server := pgtest.Own(t, throwaway.Options{Major: major, Settings: map[string]string{"max_prepared_transactions": prepared}})
	dsn := server.DSN("postgres")
	if err := schematest.Install(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
	b := busOn(t, dsn)
	b.prepares = prepares
	return b
}

func busOn(t *testing.T, dsn string) bus {
	t.Helper()
	b := bus{dsn: dsn, pool: pgtest.Pool(t, dsn)}
	b.spec = schematest.Forward(t, b.pool, "orders", relayID)
	c, err := catalog.Open(t.Context(), catalog.Options{ConnString: dsn, Relay: catalog.RelayInfo{ID: relayID}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	b.catalog = c
	return b
}

func (b bus) open(t *testing.T) *Reader {
	t.Helper()
	r := New(b.catalog, b.spec)
	if err := r.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

func read(t *testing.T, r *Reader, limit int) message.Page {
	t.Helper()
	page, err := r.Read(t.Context(), limit)
	if err != nil {
		t.Fatal(err)
	}
	return page
}

func eventIDs(messages []message.Message) []string {
	var ids []string
	for _, m := range messages {
		ids = append(ids, m.EventID)
	}
	return ids
}
