package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// signingSecret is that of the specification's example.
const signingSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// hook is a service that speaks only HTTP. It keeps what it got.
type hook struct {
	*httptest.Server
	mu    sync.Mutex
	posts []posted
	// answer returns the status of a request; nil takes everything. It may wait.
	answer func(p posted, r *http.Request) int
}

// posted is one request.
type posted struct {
	id, order, body string
	taken           bool
}

func startHook(t *testing.T) *hook {
	t.Helper()
	verifier, err := standardwebhooks.NewWebhook(signingSecret)
	if err != nil {
		t.Fatal(err)
	}
	h := &hook{}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // cut off
		}
		if err := verifier.Verify(body, r.Header); err != nil {
			t.Errorf("a request is not signed: %v", err)
		}
		var payload struct {
			Order string `json:"order_id"`
		}
		if err := json.Unmarshal(body, &payload); err != nil {
			t.Errorf("a body is %q", body)
		}
		p := posted{id: r.Header.Get("webhook-id"), order: payload.Order, body: string(body)}
		if got := r.Header.Get("ce-id"); got != p.id || strings.HasPrefix(p.order, "H") && r.Header.Get("ce-subject") != p.order {
			t.Errorf("ce-id %s of request %s, ce-subject %q of order %s", got, p.id, r.Header.Get("ce-subject"), p.order)
		}
		h.mu.Lock()
		answer := h.answer
		h.mu.Unlock()
		status := http.StatusNoContent
		if answer != nil {
			status = answer(p, r)
		}
		p.taken = status/100 == 2
		h.mu.Lock()
		h.posts = append(h.posts, p)
		h.mu.Unlock()
		w.WriteHeader(status)
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hook) answers(answer func(p posted, r *http.Request) int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answer = answer
}

// took returns the distinct events that the service took, by order, each in
// the order in which they came first, and how many came again.
func (h *hook) took() (byOrder map[string][]string, events, repeats int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	byOrder, seen := map[string][]string{}, map[string]string{}
	for _, p := range h.posts {
		switch before, again := seen[p.id]; {
		case !p.taken:
		case again && before == p.body:
			repeats++
		default:
			seen[p.id] = p.body
			byOrder[p.order] = append(byOrder[p.order], p.body)
			events++
		}
	}
	return byOrder, events, repeats
}

// hookKeys are the keys that lead to the service.
func (h *hook) keys() string {
	return fmt.Sprintf(`"url": %q, "allow_networks": "127.0.0.0/8", "signing_secret": "${env:HOOK_SECRET}", "timeout_seconds": 60`, h.URL)
}

// step publishes one event of each order.
func step(t *testing.T, b *bus, n, orders int) {
	t.Helper()
	for i := range orders {
		b.order(t, fmt.Sprintf("H%02d", i), fmt.Sprintf("step.%02d", n))
	}
}

// inSteps says whether every order's events came in the order of their steps.
func inSteps(t *testing.T, h *hook, orders, steps int) {
	t.Helper()
	byOrder, _, _ := h.took()
	got := map[string][]string{}
	for order, bodies := range byOrder {
		for _, body := range bodies {
			var payload struct {
				Type string `json:"event_type"`
			}
			if err := json.Unmarshal([]byte(body), &payload); err != nil {
				t.Fatal(err)
			}
			got[order] = append(got[order], payload.Type)
		}
	}
	checkSteps(t, "over HTTP", got, orders, steps)
}

// checkSteps says whether every order has all steps, each once and in order.
func checkSteps(t *testing.T, way string, got map[string][]string, orders, steps int) {
	t.Helper()
	var want []string
	for n := range steps {
		want = append(want, fmt.Sprintf("step.%02d", n))
	}
	for i := range orders {
		order := fmt.Sprintf("H%02d", i)
		if !slices.Equal(got[order], want) {
			t.Errorf("order %s %s: %q, want %q", order, way, got[order], want)
		}
	}
}

// TestInboxPushSurvivesAKilledRelay kills the relay while requests are out:
// everything arrives at least once, under the same ids, in the order of each
// key, and ends processed.
func TestInboxPushSurvivesAKilledRelay(t *testing.T) {
	t.Setenv("HOOK_SECRET", signingSecret)
	const orders, steps = 6, 10
	h := startHook(t)
	b := newBus(t, startBroker(t).URL())
	b.payments.execute(t, `select tide.relay_set_inbox('orders-for-payments', 'payment_triggers', jsonb_set(p.config, '{inbox_push}', $1::jsonb))
		from tide.pipeline p where p.name = 'orders-for-payments'`, "{"+h.keys()+"}")
	startRelay(t, b.orders.dsn)
	first := startRelay(t, b.payments.dsn)

	// every fifth request stays out until the relay is gone
	out, asked := make(chan struct{}, 100), 0
	var mu sync.Mutex
	h.answers(func(p posted, r *http.Request) int {
		mu.Lock()
		asked++
		hold := asked%5 == 0
		mu.Unlock()
		if hold {
			out <- struct{}{}
			<-r.Context().Done() // it was taken; nobody learns of it
		}
		return http.StatusOK
	})
	for n := range steps {
		step(t, b, n, orders)
	}
	<-out
	<-out
	first.kill(t)
	h.answers(nil)
	startRelay(t, b.payments.dsn)
	eventually(t, func() (bool, string) {
		n := one[int](t, b.payments, `select count(*) from tide.payment_triggers_inbox where processed_at is not null`)
		return n == orders*steps+1, fmt.Sprintf("%d messages are processed; %s", n, b.payments.status(t))
	})
	_, events, repeats := h.took()
	if events != orders*steps+1 {
		t.Errorf("the service took %d events, want %d", events, orders*steps+1)
	}
	if repeats < 2 {
		t.Errorf("%d events came again; two were out when the relay was killed", repeats)
	}
	inSteps(t, h, orders, steps)
}

// TestInboxPushShowsItsTrouble: the status says what is wrong in words, and
// what the service will never take is a dead letter of the inbox.
func TestInboxPushShowsItsTrouble(t *testing.T) {
	t.Setenv("HOOK_SECRET", signingSecret)
	h := startHook(t)
	b := newBus(t, startBroker(t).URL())
	h.answers(func(posted, *http.Request) int { return http.StatusServiceUnavailable })
	b.payments.execute(t, `select tide.relay_set_inbox('orders-for-payments', 'payment_triggers', jsonb_set(p.config, '{inbox_push}', $1::jsonb))
		from tide.pipeline p where p.name = 'orders-for-payments'`,
		"{"+h.keys()+`, "circuit_breaker": {"failure_threshold": 2, "open_seconds": 1}}`)
	startRelay(t, b.orders.dsn)
	relay := startRelay(t, b.payments.dsn)
	b.payments.awaitStatus(t, "orders-for-payments", `r.state = 'waiting' and r.reason like 'inbox_push: circuit open until %503%'`)
	h.answers(func(posted, *http.Request) int { return http.StatusUnprocessableEntity })
	b.payments.awaitStatus(t, "orders-for-payments", `r.state = 'running' and r.last_error like 'inbox_push of event %422%'`)
	h.answers(nil)
	step(t, b, 0, 3)
	eventually(t, func() (bool, string) {
		n := one[int](t, b.payments, `select count(*) from tide.payment_triggers_inbox where processed_at is not null`)
		return n == 3, fmt.Sprintf("%d messages are processed", n)
	})
	if dead := one[int](t, b.payments, `select count(*) from tide.payment_triggers_inbox where dead_at is not null`); dead != 1 {
		t.Errorf("%d dead letters, want 1", dead)
	}
	response, err := http.Get("http://" + relay.address(t) + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"tide_inbox_messages_pushed_total", "tide_inbox_push_failures_total", "tide_inbox_push_dead_letters_total"} {
		if !strings.Contains(string(text), want+`{direction="reverse",pipeline="orders-for-payments"}`) {
			t.Errorf("no metric %s", want)
		}
	}
}

// TestWebhookSinkSurvivesAKilledRelay posts an outbox, kills the relay while
// requests are out, and has one key's event refused: the others flow, nothing
// is lost, and each key stays in order.
func TestWebhookSinkSurvivesAKilledRelay(t *testing.T) {
	t.Setenv("HOOK_SECRET", signingSecret)
	const orders, steps = 6, 10
	h := startHook(t)
	b := newBus(t, startBroker(t).URL())
	b.orders.execute(t, `select tide.relay_delete('orders-to-nats')`)
	b.orders.execute(t, `select tide.relay_set_outbox('orders-to-hook', 'order_events', $1::jsonb)`,
		`{"sink_type": "webhook", "concurrency": 4, "lanes": 2, `+h.keys()+`}`)
	out, asked := make(chan struct{}, 1000), 0
	var mu sync.Mutex
	poison := func(p posted) bool { return p.order == "H00" && strings.Contains(p.body, "step.03") }
	h.answers(func(p posted, r *http.Request) int {
		if poison(p) {
			return http.StatusUnprocessableEntity
		}
		mu.Lock()
		asked++
		hold := asked%7 == 0
		mu.Unlock()
		if hold {
			out <- struct{}{}
			<-r.Context().Done()
		}
		return http.StatusOK
	})
	first := startRelay(t, b.orders.dsn)
	for n := range steps {
		step(t, b, n, orders)
	}
	<-out
	first.kill(t)
	h.answers(func(p posted, _ *http.Request) int {
		if poison(p) {
			return http.StatusUnprocessableEntity
		}
		return http.StatusOK
	})
	startRelay(t, b.orders.dsn)
	// the poisoned key is parked behind its event; all else arrives
	b.orders.awaitStatus(t, "orders-to-hook", `r.lag_events = 0`)
	eventually(t, func() (bool, string) {
		byOrder, events, _ := h.took()
		return events == orders*steps+1-7 && len(byOrder["H00"]) == 3, fmt.Sprintf("the service took %d events, %d of the poisoned key; %s",
			events, len(byOrder["H00"]), b.orders.status(t))
	})
	if parked := one[int](t, b.orders, `select count(*) from tide.dead_letters`); parked != 7 {
		t.Errorf("%d dead letters, want the refused event and the six behind it", parked)
	}
	// what the service takes now comes, in order
	h.answers(nil)
	b.orders.execute(t, `select tide.dead_letter_retry('orders-to-hook', array(select id from tide.dead_letters where attempts > 0))`)
	eventually(t, func() (bool, string) {
		_, events, _ := h.took()
		return events == orders*steps+1, fmt.Sprintf("the service took %d events; %s", events, b.orders.status(t))
	})
	inSteps(t, h, orders, steps)
}
