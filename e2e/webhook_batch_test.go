package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
)

// batchRoad forwards requests to a webhook source and counts what they hold.
type batchRoad struct {
	*httptest.Server
	requests, events, single atomic.Int64
	// deaf has answers of the source thrown away.
	deaf atomic.Bool
}

func startBatchRoad(t *testing.T, listen string) *batchRoad {
	t.Helper()
	forward := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: listen})
	forward.ErrorLog = log.New(io.Discard, "", 0)
	r := &batchRoad{}
	forward.ModifyResponse = func(*http.Response) error {
		if r.deaf.CompareAndSwap(true, false) {
			return fmt.Errorf("the answer is lost")
		}
		return nil
	}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		if err != nil {
			return // cut off
		}
		var list []json.RawMessage
		if err := json.Unmarshal(body, &list); err != nil || request.Header.Get("Content-Type") != "application/cloudevents-batch+json" {
			t.Errorf("a request is no batch: %s %.100s", request.Header.Get("Content-Type"), body)
		}
		r.requests.Add(1)
		r.events.Add(int64(len(list)))
		if len(list) == 1 {
			r.single.Add(1)
		}
		request.Body = io.NopCloser(bytes.NewReader(body))
		forward.ServeHTTP(w, request)
	}))
	t.Cleanup(r.Close)
	return r
}

// TestBatchesOfAWebhookArriveInAnotherInbox sends an outbox as signed batches to
// a webhook source, loses an answer, and kills the sender: each event is in the
// inbox once, under its own id, those of a key in order.
func TestBatchesOfAWebhookArriveInAnotherInbox(t *testing.T) {
	t.Parallel()
	const events, keys = 700, 7
	sender, receiver, listen := newService(t), newService(t), freePort(t)
	road := startBatchRoad(t, listen)
	receiver.execute(t, `create extension pg_tide`)
	receiver.execute(t, `select tide.inbox_create('hooks')`)
	receiver.execute(t, `select tide.relay_set_inbox('from-shop', 'hooks', jsonb_build_object('source_type', 'webhook', 'listen', $1::text, 'path', '/shop',
		'signature', 'standard_webhooks', 'secret', $2::text))`, listen, signingSecret)
	sender.execute(t, `create extension pg_tide`)
	sender.execute(t, `select tide.outbox_create('shop')`)
	sender.execute(t, `select tide.relay_set_outbox('to-hooks', 'shop', jsonb_build_object('sink_type', 'webhook', 'url', $1::text,
		'allow_networks', '127.0.0.0/8', 'signing_secret', $2::text, 'wire_format', 'cloudevents_batch', 'batch_max_events', 40, 'concurrency', 3))`,
		road.URL+"/shop", signingSecret)
	publish := func(from, to int) {
		sender.execute(t, fmt.Sprintf(`select tide.outbox_publish('shop', 'orders', jsonb_build_object('n', n), '{"traceparent": "00-x-y-01"}', key => 'k' || n %% %d)
			from generate_series($1::int, $2::int - 1) n`, keys), from, to)
	}
	startRelay(t, receiver.dsn)
	publish(0, events/2)
	road.deaf.Store(true)
	first := startRelay(t, sender.dsn)
	receiver.arrived(t, "hooks", 40)
	first.kill(t)
	publish(events/2, events)
	startRelay(t, sender.dsn)
	sender.awaitStatus(t, "to-hooks", `r.lag_events = 0`)
	receiver.arrived(t, "hooks", events)

	if got := one[string](t, receiver, `select count(*) || ' ' || count(distinct (payload->>'n')::int) from tide.hooks_inbox`); got != fmt.Sprintf("%[1]d %[1]d", events) {
		t.Errorf("the inbox holds %s messages and events, want %d of each", got, events)
	}
	if late := one[int](t, receiver, `select count(*) from (select (payload->>'n')::int as n, lag((payload->>'n')::int) over (partition by key order by id) as before
		from tide.hooks_inbox) m where before > n`); late != 0 {
		t.Errorf("%d messages are behind a later one of their key", late)
	}
	type whole struct{ ids, wrong int }
	got := whole{
		ids: one[int](t, receiver, `select count(distinct event_id) from tide.hooks_inbox where event_id ~ '^[0-9a-f-]{36}$'`),
		wrong: one[int](t, receiver, `select count(*) from tide.hooks_inbox where stream <> 'orders' or key <> 'k' || (payload->>'n')::int % 7
			or headers->>'traceparent' is distinct from '00-x-y-01'`),
	}
	if want := (whole{ids: events}); got != want {
		t.Errorf("%d event ids, %d messages that lack something", got.ids, got.wrong)
	}
	requests, sent := road.requests.Load(), road.events.Load()
	if sent <= events {
		t.Errorf("%d events were sent; those whose answer was lost did not come again", sent)
	}
	if requests*4 > sent {
		t.Errorf("%d requests for %d events: they are hardly batches", requests, sent)
	}
	t.Logf("%d requests, %d of a single event, for %d events, some again", requests, road.single.Load(), sent)
}
