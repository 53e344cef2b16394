package builtin

import (
	"context"
	"strings"
	"testing"

	"github.com/pg-tide/pg-tide/internal/pipeline"
	"github.com/pg-tide/pg-tide/internal/relay"
)

// keepingReader remembers what it was asked to keep.
type keepingReader struct {
	relay.Reader
	limit int
}

func (r *keepingReader) KeepTransactions(limit int) { r.limit = limit }

// sinkTo begins a configuration for each technology that keeps transactions.
var sinkTo = map[string]string{
	"atomic":        `{"sink_type": "nats", "url": "nats://a"`,
	"transactional": `{"sink_type": "kafka", "brokers": "a:1"`,
}

func buildAtomic(keys string) (relay.Plan, *keepingReader, error) {
	start := sinkTo["atomic"]
	if strings.Contains(keys, "transactional") {
		start = sinkTo["transactional"]
	}
	reader := &keepingReader{}
	b := newBuilder()
	b.Near.Reader = func(pipeline.Spec) relay.Reader { return reader }
	plan, err := b.Build(context.Background(), pipeline.Spec{Name: "p", Direction: pipeline.Forward, Endpoint: "o",
		Config: []byte(start + keys + `}`)})
	return plan, reader, err
}

func TestAnAtomicPipelineKeepsTransactionsAndBlocksUnlessTold(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		keys   string
		keeps  bool
		policy pipeline.Policy
	}{
		{`, "atomic": true`, true, pipeline.Block},
		{`, "atomic": true, "on_error": "dead_letter"`, true, pipeline.DeadLetter},
		{`, "atomic": true, "on_error": "block", "lanes": 1`, true, pipeline.Block},
		{`, "atomic": false`, false, pipeline.ParkKey},
		{`, "transactional": true`, true, pipeline.Block},
		{`, "transactional": true, "on_error": "dead_letter"`, true, pipeline.DeadLetter},
		{`, "transactional": false`, false, pipeline.ParkKey},
		{``, false, pipeline.ParkKey},
	} {
		plan, reader, err := buildAtomic(c.keys)
		if err != nil {
			t.Fatal(err)
		}
		if (reader.limit > 0) != c.keeps || plan.Limits.OnError != c.policy {
			t.Errorf("%s: keeps transactions of %d events, on_error %s", c.keys, reader.limit, plan.Limits.OnError)
		}
	}
}

func TestWhatWouldTearTransactionsIsRefused(t *testing.T) {
	t.Parallel()
	for keys, want := range map[string][]string{
		`, "atomic": true, "lanes": 4`:                   {`"lanes" is 4`, "one lane"},
		`, "atomic": true, "on_error": "park_key"`:       {`"on_error" is "park_key"`, "block", "dead_letter"},
		`, "transactional": true, "lanes": 4`:            {`"lanes" is 4`, "one lane", "transactional"},
		`, "transactional": true, "acks": "leader"`:      {"acks is leader"},
		`, "atomic": true, "atomic_oversize": "squeeze"`: {`"atomic_oversize" is "squeeze"`, "refuse", "split"},
	} {
		_, _, err := buildAtomic(keys)
		if err == nil {
			t.Errorf("%s is taken", keys)
			continue
		}
		for _, part := range want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %q lacks %q", keys, err, part)
			}
		}
	}
}
