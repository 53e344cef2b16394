//go:build !race

package catalog

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/pg-tide/pg-tide/internal/message"
)

// What an event costs in memory does not depend on the machine, so the
// ceilings are tight: whoever crosses one says why.
func TestAllocationsOfAPage(t *testing.T) {
	const events = 1000
	eight := binary.BigEndian.AppendUint64(nil, 7)
	payload := fmt.Appendf(nil, `{"text": "%0180d"}`, 1)
	row := [][]byte{eight, make([]byte, 16), []byte("orders"), []byte("17"), []byte("insert"), []byte("order.created"), eight, payload, nil, eight}
	request := PageRequest{Limit: events, Outbox: "orders", Source: "/x/orders"}
	page := func() []message.Message {
		d := newDecoder(request)
		for range events {
			if err := d.add(row); err != nil {
				t.Fatal(err)
			}
		}
		request.Expect = d.size()
		return d.messages()
	}
	page() // the first has no size to expect
	check(t, "decode a page", 6, func() { page() })
	messages := page()
	for i := range messages {
		messages[i].EventID = fmt.Sprint(i)
	}
	// a string of each payload, and the columns
	check(t, "columns of a batch", events+columns+1, func() { columnsOf(messages) })
}

func check(t *testing.T, what string, most float64, do func()) {
	t.Helper()
	n := testing.AllocsPerRun(20, do)
	t.Logf("%s: %v allocations", what, n)
	if n > most {
		t.Errorf("%s takes %v allocations, and %v are the most", what, n, most)
	}
}
