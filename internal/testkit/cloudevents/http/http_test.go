package http_test

import (
	nethttp "net/http"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/pg-tide/pg-tide/internal/testkit/cloudevents/http"
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
		request, err := http.Write(t.Context(), "http://localhost/events", &e, structured)
		if err != nil {
			t.Fatal(err)
		}
		if binary := request.Header.Get("ce-id") == "1"; binary == structured {
			t.Errorf("%s: the headers are %v", name, request.Header)
		}
		got, err := http.Read(t.Context(), request)
		if err != nil || got.ID() != "1" || got.Source() != "/shop" || got.Type() != "sold" || !got.Time().Equal(e.Time()) || string(got.Data()) != `{"n":1}` {
			t.Errorf("%s: read %v, %v", name, got, err)
		}
	}
}

func TestReadsABatch(t *testing.T) {
	t.Parallel()
	of := func(kind string) *nethttp.Request {
		request, err := nethttp.NewRequestWithContext(t.Context(), nethttp.MethodPost, "http://localhost/events",
			strings.NewReader(`[{"specversion":"1.0","id":"1","source":"/shop","type":"sold"},{"specversion":"1.0","id":"2","source":"/shop","type":"sold","data":3}]`))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", kind)
		return request
	}
	all, err := http.ReadBatch(of("application/cloudevents-batch+json"))
	if err != nil || len(all) != 2 || all[0].ID() != "1" || all[1].ID() != "2" || string(all[1].Data()) != "3" {
		t.Errorf("read %v, %v", all, err)
	}
	if all, err := http.ReadBatch(of("application/json")); err == nil {
		t.Errorf("read %v of what is no batch", all)
	}
}
