package tide_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/pg-tide/pg-tide/tide"
)

// fromTheSpecification are events in the form of the specification's examples.
var fromTheSpecification = map[string]string{
	"with extensions": `{
		"specversion": "1.0", "type": "com.example.someevent", "source": "/mycontext", "subject": null,
		"id": "C234-1234-1234", "time": "2018-04-05T17:31:00Z",
		"comexampleextension1": "value", "comexampleothervalue": 5,
		"datacontenttype": "application/json", "data": {"appinfoA": "abc", "appinfoB": 123, "appinfoC": true}}`,
	"smallest": `{"specversion": "1.0", "type": "t", "source": "s", "id": "1", "data": null}`,
	"everything": `{"specversion": "1.0", "type": "order.created", "source": "https://example.com/orders", "subject": "7",
		"id": "0190a5c6-7d2e-7000-8000-000000000001", "time": "2026-01-02T03:04:05.678Z", "dataschema": "https://example.com/order.json",
		"datacontenttype": "application/json", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		"tidestream": "orders", "tideop": "update", "tideheaders": "{\"tenant\":\"a\"}", "flag": true, "data": [1, "two"]}`,
}

func object(t *testing.T, text []byte) map[string]any {
	t.Helper()
	var o map[string]any
	if err := json.Unmarshal(text, &o); err != nil {
		t.Fatal(err)
	}
	for name, value := range o {
		if value == nil && name != "data" {
			delete(o, name)
		}
	}
	return o
}

func TestCloudEventsAreReadAndWrittenAsTheSpecificationHasThem(t *testing.T) {
	for name, text := range fromTheSpecification {
		var c tide.CloudEvent
		if err := json.Unmarshal([]byte(text), &c); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		again, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := object(t, again), object(t, []byte(text)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %v; want %v", name, got, want)
		}
	}
}

// Published, delivered and read again, a CloudEvent is what it was.
func TestACloudEventSurvivesTheBus(t *testing.T) {
	db := database(t, 0)
	for name, text := range fromTheSpecification {
		var c tide.CloudEvent
		if err := json.Unmarshal([]byte(text), &c); err != nil {
			t.Fatal(err)
		}
		e, err := c.Event()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tide.Publish(t.Context(), db.Pool, "o", e); err != nil {
			t.Fatal(err)
		}
		published := db.Published("o")
		id := db.Deliver("i", published[len(published)-1])
		m := db.WaitMessage("i", func(m *tide.Message) bool { return m.EventID == id })
		if m.Key != c.Subject || m.Type != c.Type {
			t.Errorf("%s arrived as %+v", name, m)
		}
		m.Source = "/d/o" // as the relay has it
		back, err := m.CloudEvent()
		if err != nil {
			t.Fatal(err)
		}
		written, err := json.Marshal(back)
		if err != nil {
			t.Fatal(err)
		}
		want := object(t, []byte(text))
		want["datacontenttype"] = "application/json"
		if got := object(t, written); !reflect.DeepEqual(got, want) {
			t.Errorf("%s came out as\n%v; want\n%v", name, got, want)
		}
	}
}

func TestWhatIsNoCloudEventOfJSONIsRefused(t *testing.T) {
	for want, text := range map[string]string{
		"JSON object":      `[]`,
		"specversion":      `{"specversion": "0.3", "type": "t", "source": "s", "id": "1"}`,
		"has no id":        `{"specversion": "1.0", "type": "t", "source": "s"}`,
		"has no source":    `{"specversion": "1.0", "type": "t", "id": "1", "source": ""}`,
		"not text":         `{"specversion": "1.0", "type": 1, "source": "s", "id": "1"}`,
		"RFC 3339":         `{"specversion": "1.0", "type": "t", "source": "s", "id": "1", "time": "yesterday"}`,
		"lower-case":       `{"specversion": "1.0", "type": "t", "source": "s", "id": "1", "Not_Allowed": "x"}`,
		"neither text nor": `{"specversion": "1.0", "type": "t", "source": "s", "id": "1", "deep": {}}`,
		"data_base64":      `{"specversion": "1.0", "type": "t", "source": "s", "id": "1", "data_base64": "AA=="}`,
		"pg_tide takes JSON": `{"specversion": "1.0", "type": "t", "source": "s", "id": "1",
			"datacontenttype": "text/xml", "data": "<much wow=\"xml\"/>"}`,
	} {
		var c tide.CloudEvent
		err := json.Unmarshal([]byte(text), &c)
		if err == nil {
			_, err = c.Event()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", text, err, want)
		}
	}
}

func TestAnIDThatIsNoUUIDGivesTheSameOneEachTime(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range []tide.CloudEvent{{ID: "1", Source: "a"}, {ID: "1", Source: "b"}, {ID: "2", Source: "a"}} {
		c.Type, c.Data = "t", json.RawMessage(`1`)
		first, err := c.Event()
		if err != nil {
			t.Fatal(err)
		}
		second, _ := c.Event()
		if first.ID != second.ID || seen[first.ID] {
			t.Errorf("%s#%s is %s and then %s", c.Source, c.ID, first.ID, second.ID)
		}
		seen[first.ID] = true
	}
}
