package outbox

import (
	"slices"
	"testing"

	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
)

func TestReadsWhatWasPublishedAndResumesFromTheSavedPosition(t *testing.T) {
	t.Parallel()
	b := newBus(t, 0)
	want := []string{
		schematest.Publish(t, b.pool, "orders", "a", `{"event_type": "order.created", "n": 1}`),
		schematest.Publish(t, b.pool, "orders", "b", `{"n": 2}`),
	}
	r := b.open(t)
	page := read(t, r, 10)
	if got := eventIDs(page.Messages); !slices.Equal(got, want) {
		t.Fatalf("read %v, want %v", got, want)
	}
	m := page.Messages[0]
	if m.Key != "a" || m.Stream != "orders" || m.Op != "insert" || m.EventType != "order.created" ||
		string(m.Payload) != `{"n": 1, "event_type": "order.created"}` || m.Headers != nil || m.Time.IsZero() {
		t.Errorf("unexpected message: %+v", m)
	}
	if page.Messages[1].EventType != "orders.insert" {
		t.Errorf("event type %q", page.Messages[1].EventType)
	}

	if err := r.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := eventIDs(read(t, r, 1).Messages); !slices.Equal(got, want[:1]) {
		t.Fatalf("an unsaved session read %v, want %v", got, want[:1])
	}
	second := read(t, r, 1)
	if err := r.Save(t.Context(), second.Position); err != nil {
		t.Fatal(err)
	}
	third := schematest.Publish(t, b.pool, "orders", "a", `{"n": 3}`)
	if err := r.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := eventIDs(read(t, r, 10).Messages); !slices.Equal(got, []string{third}) {
		t.Fatalf("after the save it read %v, want %v", got, third)
	}
}
