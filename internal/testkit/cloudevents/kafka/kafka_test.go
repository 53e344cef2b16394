package kafka_test

import (
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/pg-tide/pg-tide/internal/testkit/cloudevents/kafka"
)

func TestReadsWhatItWrites(t *testing.T) {
	t.Parallel()
	e := event.New()
	e.SetID("1")
	e.SetSource("/shop")
	e.SetType("sold")
	e.SetTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	if err := e.SetData("application/json", map[string]int{"n": 1}); err != nil {
		t.Fatal(err)
	}
	for name, structured := range map[string]bool{"binary": false, "structured": true} {
		value, headers, err := kafka.Write(t.Context(), &e, structured)
		if err != nil {
			t.Fatal(err)
		}
		id := ""
		for _, h := range headers {
			if h.Key == "ce_id" {
				id = string(h.Value)
			}
		}
		if binary := id == "1"; binary == structured {
			t.Errorf("%s: the headers are %v", name, headers)
		}
		got, err := kafka.Read(t.Context(), value, headers)
		if err != nil || got.ID() != "1" || got.Source() != "/shop" || got.Type() != "sold" || !got.Time().Equal(e.Time()) || string(got.Data()) != `{"n":1}` {
			t.Errorf("%s: read %v, %v", name, got, err)
		}
	}
}
