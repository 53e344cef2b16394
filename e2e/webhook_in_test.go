package e2e

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// poster is a sender that signs as GitHub does.
type poster struct {
	client http.Client
	url    string
}

func newPoster(t *testing.T, listen, path string) *poster {
	t.Helper()
	h := &poster{url: "http://" + listen + path}
	t.Cleanup(h.client.CloseIdleConnections)
	return h
}

// post sends a delivery once and returns the status; 0 when there was no answer.
func (h *poster) post(t *testing.T, delivery, body string) int {
	t.Helper()
	sum := hmac.New(sha256.New, []byte("s3cret"))
	sum.Write([]byte(body))
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(sum.Sum(nil)))
	request.Header.Set("X-GitHub-Delivery", delivery)
	response, err := h.client.Do(request)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body) // the status says it all
	return response.StatusCode
}

// deliver sends again until it is told that the message is stored.
func (h *poster) deliver(t *testing.T, n int) {
	t.Helper()
	body := fmt.Sprintf(`{"order_id": "%d", "event_type": "order.created"}`, n)
	eventually(t, func() (bool, string) {
		status := h.post(t, fmt.Sprintf("delivery-%d", n), body)
		if status >= 400 && status < 500 {
			t.Fatalf("delivery %d is answered %d", n, status)
		}
		return status == http.StatusNoContent, fmt.Sprintf("delivery %d is answered %d", n, status)
	})
}

// freePort is an address that nobody listened on a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func newHooked(t *testing.T) (s *service, listen string) {
	t.Helper()
	s, listen = newService(t), freePort(t)
	s.execute(t, `create extension pg_tide`)
	s.execute(t, `select tide.inbox_create('hooks')`)
	s.execute(t, `select tide.relay_set_inbox('github', 'hooks', jsonb_build_object('source_type', 'webhook', 'listen', $1::text, 'path', '/hooks/github',
		'signature', 'github', 'secret', 's3cret'))`, listen)
	return s, listen
}

// What was answered 204 is in the inbox, whatever was killed; what was sent
// again is there once.
func TestWebhookThatWasAnsweredIsInTheInboxAcrossKills(t *testing.T) {
	t.Parallel()
	s, listen := newHooked(t)
	r := startRelay(t, s.dsn)
	h := newPoster(t, listen, "/hooks/github")
	var want []string
	for n := range 120 {
		if n%40 == 20 {
			r.kill(t)
			r = startRelay(t, s.dsn)
		}
		h.deliver(t, n)
		want = append(want, fmt.Sprintf("%d order.created", n))
		if got := one[int](t, s, `select count(*) from tide.hooks_inbox where event_id = $1`, fmt.Sprintf("/hooks/github#delivery-%d", n)); got != 1 {
			t.Fatalf("delivery %d was answered and is in the inbox %d times", n, got)
		}
		if n%7 == 0 {
			h.deliver(t, n) // the sender did not hear the answer
		}
	}
	if got := s.inbox(t, "hooks"); !slices.Equal(got, want) {
		t.Errorf("the inbox holds %q, want each of %d once and in order", got, len(want))
	}
}

// A crowd of senders is answered each for its own, in common transactions, and
// a relay that ends in the midst leaves nobody with a false answer.
func TestWebhooksOfManySendersAreEachStoredOnce(t *testing.T) {
	t.Parallel()
	s, listen := newHooked(t)
	r := startRelay(t, s.dsn)
	const senders, each = 8, 40
	done := make(chan struct{})
	for sender := range senders {
		go func() {
			defer func() { done <- struct{}{} }()
			h := &poster{url: "http://" + listen + "/hooks/github"}
			defer h.client.CloseIdleConnections()
			for n := range each {
				for h.post(t, fmt.Sprintf("delivery-%d-%d", sender, n), `{"a": 1}`) != http.StatusNoContent {
					if t.Context().Err() != nil {
						return
					}
				}
			}
		}()
	}
	s.arrived(t, "hooks", senders*each/3)
	r.stop(t)
	startRelay(t, s.dsn)
	for range senders {
		<-done
	}
	if got := one[string](t, s, `select count(*) || ' ' || count(distinct event_id) from tide.hooks_inbox`); got != fmt.Sprintf("%[1]d %[1]d", senders*each) {
		t.Errorf("the inbox holds %s messages and ids, want %d", got, senders*each)
	}
}

// A wrong signature stores nothing, and the database's absence is no 2xx.
func TestWebhookIsNotAnsweredWellWithoutTheInbox(t *testing.T) {
	t.Parallel()
	s, listen := newHooked(t)
	startRelay(t, s.dsn)
	h := newPoster(t, listen, "/hooks/github")
	h.deliver(t, 1)
	if status := newPoster(t, listen, "/hooks/other").post(t, "x", `{}`); status != http.StatusNotFound {
		t.Errorf("another path is answered %d", status)
	}
	s.execute(t, `begin; lock table tide.hooks_inbox in access exclusive mode`)
	s.awaitNone(t, h)
	s.execute(t, `commit`)
	h.deliver(t, 2)
	if got := s.inbox(t, "hooks"); !slices.Equal(got, []string{"1 order.created", "2 order.created"}) {
		t.Errorf("the inbox holds %q", got)
	}
}

// awaitNone posts while the inbox takes nothing.
func (s *service) awaitNone(t *testing.T, h *poster) {
	t.Helper()
	if status := h.post(t, "delivery-2", `{"order_id": "2", "event_type": "order.created"}`); status != http.StatusServiceUnavailable {
		t.Errorf("while the inbox takes nothing the answer is %d, want 503", status)
	}
}
