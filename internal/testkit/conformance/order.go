package conformance

import (
	"fmt"
	"testing"

	"github.com/pg-tide/pg-tide/internal/message"
)

// OrderKept says what a far end keeps of the order in which events were sent.
type OrderKept int

// What a far end can keep.
const (
	// Whole is the order of all events.
	Whole OrderKept = iota
	// ByKey is the order of the events of each key.
	ByKey
	// None is no order.
	None
)

// Kept is what the features say of the order.
func Kept(lacks Lacks, byKey bool) OrderKept {
	if _, lacking := lacks[Order]; lacking {
		return None
	}
	if byKey {
		return ByKey
	}
	return Whole
}

// Exactly fails t unless got holds the wanted events, each once, and in order.
func Exactly(t testing.TB, kept OrderKept, got, want []message.Envelope) {
	t.Helper()
	arrived(t, kept, got, want, false)
}

// AtLeastOnce fails t unless got holds each of the wanted events, and none of
// them before all that come first in its order. An event may be there again:
// whoever was cut off sends again what it does not know to have arrived.
func AtLeastOnce(t testing.TB, kept OrderKept, got, want []message.Envelope) {
	t.Helper()
	arrived(t, kept, got, want, true)
}

// arrived compares by bodies, which differ from event to event.
func arrived(t testing.TB, kept OrderKept, got, want []message.Envelope, again bool) {
	t.Helper()
	place := map[string]int{} // of a body in the order that counts
	next := map[string]int{}
	key := func(i int) string {
		switch kept {
		case ByKey:
			return want[i].Key
		case None:
			return fmt.Sprint(i)
		}
		return ""
	}
	index := map[string]int{}
	for i := range want {
		body := string(want[i].Body)
		place[body], index[body] = next[key(i)], i
		next[key(i)]++
	}
	clear(next)
	seen := 0
	for i := range got {
		body := string(got[i].Body)
		at, known := index[body]
		if !known {
			t.Fatalf("event %d that arrived was never sent: %.80q", i, body)
		}
		switch k := key(at); {
		case place[body] == next[k]:
			next[k]++
			seen++
		case place[body] > next[k]:
			t.Fatalf("event %d that arrived, %.80q, came before %d earlier ones", i, body, place[body]-next[k])
		case !again:
			t.Fatalf("event %d that arrived, %.80q, came twice", i, body)
		}
	}
	if seen != len(want) {
		t.Fatalf("%d events arrived, want %d", seen, len(want))
	}
}
