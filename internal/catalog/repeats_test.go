package catalog

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
)

// A batch is inserted without a look for repeats where none is expected, and
// one that comes all the same is found.
func TestRepeatsAreFoundWhetherTheyAreExpectedOrNot(t *testing.T) {
	t.Parallel()
	_, c, target, ids := newInbox(t, "i")
	target.Repeats = &Repeats{}
	insert := func(want int, batch ...string) {
		t.Helper()
		if added, err := c.InsertInbox(t.Context(), target, incoming(batch...)); err != nil || added != want {
			t.Fatalf("%v: %d added, %v; want %d", batch, added, err, want)
		}
	}
	insert(3, "c", "a", "b", "a") // one comes twice in the same batch
	for n := range looksAfterRepeat {
		if !target.Repeats.expected() {
			t.Fatalf("no repeat is expected %d batches after one", n)
		}
		insert(1, fmt.Sprint("clean", n))
	}
	if target.Repeats.expected() {
		t.Fatalf("repeats are expected %d batches after one", looksAfterRepeat)
	}
	insert(2, "d", "e")
	if target.Repeats.expected() {
		t.Fatal("a batch without a repeat makes repeats expected")
	}
	insert(1, "e", "f")
	if !target.Repeats.expected() {
		t.Fatal("a repeat was not noted")
	}
	target.Repeats.looks.Store(0)
	target.Repeats.Expect()
	if !target.Repeats.expected() {
		t.Fatal("repeats are not expected at the start of a session")
	}
	want := []string{"c", "a", "b"}
	for n := range looksAfterRepeat {
		want = append(want, fmt.Sprint("clean", n))
	}
	if got := ids(); !slices.Equal(got, append(want, "d", "e", "f")) {
		t.Errorf("inserted %v", got)
	}
}

// What can never be inserted is named in either way.
func TestUninsertableMessagesAreNamedWhereNoRepeatIsExpected(t *testing.T) {
	t.Parallel()
	_, c, target, ids := newInbox(t, "i")
	target.Repeats = &Repeats{}
	batch := incoming("a", "b", "a", "c")
	batch[1].Payload = []byte("{")
	_, err := c.InsertInbox(t.Context(), target, batch)
	var partial *delivery.Partial
	if !errors.As(err, &partial) || !slices.Equal(partial.Indices(), []int{1}) {
		t.Fatalf("got %v, want the second refused", err)
	}
	if got := ids(); len(got) > 0 {
		t.Errorf("inserted %v", got)
	}
}

// A column whose values are all the same is sent once.
func TestMessagesKeepTheirColumnsWhetherTheyAreAlikeOrNot(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{"alike": "", "different": "x"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, c, target, _ := newInbox(t, "i")
			batch := incoming("a", "b", "c")
			for i := range batch {
				m := &batch[i]
				m.Key = []string{"", "k", ""}[i]
				if i > 0 && change != "" {
					m.Source, m.Stream, m.Op, m.EventType = m.Source+change, m.Stream+change, m.Op+change, m.EventType+change
					m.Headers = []byte(`{"h": "` + change + `"}`)
				}
			}
			if change == "" {
				batch[1].Headers, batch[0].Headers, batch[2].Headers = nil, nil, nil
			}
			if _, err := c.InsertInbox(t.Context(), target, batch); err != nil {
				t.Fatal(err)
			}
			var got []string
			schematest.Query(t, c.pool, `select array_agg(concat_ws('|', event_id, source, stream, coalesce(key, '-'), op, event_type, payload, headers) order by id) from tide.inbox_message`, nil, &got)
			want := []string{`a|/db/o|s|-|insert|s.insert|{"a": 1}|{}`, `b|/db/o|s|k|insert|s.insert|{"a": 1}|{}`, `c|/db/o|s|-|insert|s.insert|{"a": 1}|{}`}
			if change != "" {
				want = []string{`a|/db/o|s|-|insert|s.insert|{"a": 1}|{"h": "x"}`, `b|/db/ox|sx|k|insertx|s.insertx|{"a": 1}|{"h": "x"}`, `c|/db/ox|sx|-|insertx|s.insertx|{"a": 1}|{"h": "x"}`}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}
