package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// findings says hop by hop what is wrong.
func (w *walk) findings(t *testing.T) []string {
	t.Helper()
	return append(w.compare("stream", w.inStream(t)), w.compare("inbox", w.inInbox(t))...)
}

func (w *walk) compare(where string, got map[string][]int) (findings []string) {
	for _, key := range slices.Sorted(maps.Keys(w.published)) {
		seen, last := map[int]bool{}, 0
		var lost, doubled, disordered []int
		for _, n := range got[key] {
			switch {
			case seen[n]:
				doubled = append(doubled, n)
			case n < last:
				disordered = append(disordered, n)
			}
			seen[n], last = true, max(last, n)
		}
		for n := 1; n <= w.published[key]; n++ {
			if !seen[n] {
				lost = append(lost, n)
			}
		}
		for what, numbers := range map[string][]int{"lost": lost, "doubled": doubled, "disordered": disordered} {
			if len(numbers) > 0 {
				findings = append(findings, fmt.Sprintf("%s in the %s: %s of key %s", what, where, spans(numbers), key))
			}
		}
	}
	for key, numbers := range got {
		if slices.Max(numbers) > w.published[key] {
			findings = append(findings, fmt.Sprintf("invented in the %s: up to %d of key %s, which has %d", where, slices.Max(numbers), key, w.published[key]))
		}
	}
	return findings
}

// spans writes numbers that follow one another as "3 to 9".
func spans(numbers []int) string {
	var all []string
	for i := 0; i < len(numbers); i++ {
		first := numbers[i]
		for i+1 < len(numbers) && numbers[i+1] == numbers[i]+1 {
			i++
		}
		if text := strconv.Itoa(first); numbers[i] == first {
			all = append(all, text)
		} else {
			all = append(all, text+" to "+strconv.Itoa(numbers[i]))
		}
	}
	return strings.Join(all, ", ")
}

func (w *walk) inInbox(t *testing.T) map[string][]int {
	t.Helper()
	rows, err := w.service.pool.Query(t.Context(), `select key, (payload->>'n')::int from tide."walk_inbox" order by id`)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]int{}
	var key string
	var n int
	if _, err := pgx.ForEachRow(rows, []any{&key, &n}, func() error {
		got[key] = append(got[key], n)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return got
}

func (w *walk) inStream(t *testing.T) map[string][]int {
	t.Helper()
	conn, err := natsgo.Connect(w.broker.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), w.streamName(t, js))
	if err != nil {
		t.Fatal(err)
	}
	all := int(stream.CachedInfo().State.Msgs)
	reader, err := js.OrderedConsumer(t.Context(), stream.CachedInfo().Config.Name, jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	batch, err := reader.Fetch(all, jetstream.FetchMaxWait(patience))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]int{}
	for m := range batch.Messages() {
		var payload struct{ N int }
		if err := json.Unmarshal(m.Data(), &payload); err != nil {
			t.Fatal(err)
		}
		key := m.Headers().Get("ce-subject")
		got[key] = append(got[key], payload.N)
	}
	if err := batch.Error(); err != nil {
		t.Fatal(err)
	}
	return got
}
