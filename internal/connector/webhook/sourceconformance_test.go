package webhook_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/pg-tide/pg-tide/internal/connector/webhook"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/relay"
	cloudevents "github.com/pg-tide/pg-tide/internal/testkit/cloudevents/http"
	"github.com/pg-tide/pg-tide/internal/testkit/conformance"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
	"github.com/pg-tide/pg-tide/internal/testkit/sourcetest"
	"github.com/pg-tide/pg-tide/internal/torture/proxy"
)

func TestSourceConformance(t *testing.T) {
	t.Parallel()
	const (
		noServer  = "it listens: senders come and go, and no server stands behind it"
		noAddress = "it listens, and connects to nobody"
		noLogin   = "it logs in nowhere; senders prove themselves by their signatures"
	)
	features := sourcetest.Features{
		Technology: "webhook", Headers: true, HeadersAdded: true, HeadersKept: keptHeaders(),
		Lacks: conformance.Lacks{
			conformance.Restart:             noServer,
			conformance.Kill:                noServer,
			conformance.Freeze:              "it waits for senders, and one that hangs is one that sends nothing",
			conformance.Unreachable:         noAddress,
			conformance.NoDestination:       noAddress,
			conformance.WrongName:           noAddress,
			conformance.UnknownIssuer:       noAddress,
			conformance.WrongLogin:          noLogin,
			conformance.NoPermission:        noLogin,
			conformance.EventID:             "HTTP has no place for an id; the sender's becomes that of a CloudEvent whose source is the path",
			conformance.EmptyBodies:         "a body that is not JSON is answered 400: no inbox takes it",
			conformance.BinaryBodies:        "a body that is not JSON is answered 400: no inbox takes it",
			conformance.UnacknowledgedLimit: "each sender waits for its answer, and max_pending bounds how many do",
		},
	}
	sourcetest.Run(t, features, func(t *testing.T) sourcetest.Harness {
		s := startSenders(t)
		return sourcetest.Harness{
			New: func(t testing.TB) relay.Source {
				source, err := webhook.NewSource(sourceValues{"listen": s.listen, "signature": "none", "max_body_bytes": 8 << 20}, "orders", s.hub)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = source.Close(context.Background()) })
				return source
			},
			Publish: func(_ testing.TB, envelopes []message.Envelope) {
				s.deliver(len(envelopes), func(i int, url string) (*http.Request, error) { return requestOf(&envelopes[i], url) })
			},
			WriteEvents: func(_ testing.TB, events []event.Event, structured bool) {
				s.deliver(len(events), func(i int, url string) (*http.Request, error) {
					return cloudevents.Write(context.Background(), url, &events[i], structured)
				})
			},
			Crash:       func(t testing.TB, source relay.Source) { _ = source.Close(t.Context()) },
			Cut:         s.cut,
			Destination: "orders",
		}
	})
}

// keptHeaders are those that HTTP takes, in lower case; a CloudEvent's own
// would make the request one.
func keptHeaders() (kept []message.Header) {
	for _, h := range sinktest.OddHeaders() {
		if name := strings.ToLower(h.Name); !strings.HasPrefix(name, "ce-") && h.Value != "\x01" {
			kept = append(kept, message.Header{Name: name, Value: h.Value})
		}
	}
	return kept
}

func requestOf(e *message.Envelope, url string) (*http.Request, error) {
	request, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(e.Body))
	if err != nil {
		return nil, err
	}
	if e.EventID != "" {
		request.Header.Set("webhook-id", e.EventID)
	}
	for _, h := range e.Headers {
		request.Header.Set(h.Name, h.Value)
	}
	return request, nil
}

// senders post one event after the other, each until it is told that it is
// stored. There is another port after each Open, and a cable to each.
type senders struct {
	hub    *webhook.Hub
	listen string
	client *http.Client
	stop   chan struct{}
	all    sync.WaitGroup
	last   chan struct{}

	mu     sync.Mutex
	cables map[string]*proxy.Proxy
}

func startSenders(t *testing.T) *senders {
	t.Helper()
	s := &senders{
		hub: webhook.NewHub(), listen: "127.0.0.1:0", client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
		stop: make(chan struct{}), last: make(chan struct{}), cables: map[string]*proxy.Proxy{},
	}
	close(s.last)
	t.Cleanup(func() {
		close(s.stop)
		s.mu.Lock()
		for _, cable := range s.cables {
			cable.Close()
		}
		s.mu.Unlock()
		s.all.Wait()
	})
	return s
}

// deliver posts n events once those before them are stored.
func (s *senders) deliver(n int, request func(i int, url string) (*http.Request, error)) {
	before, done := s.last, make(chan struct{})
	s.last = done
	s.all.Go(func() {
		defer close(done)
		<-before
		again := time.NewTicker(time.Millisecond)
		defer again.Stop()
		for i := 0; i < n; {
			if s.post(func(url string) (*http.Request, error) { return request(i, url) }) {
				i++
				continue
			}
			select {
			case <-s.stop:
				return
			case <-again.C:
			}
		}
	})
}

// post is true when the event is stored.
func (s *senders) post(request func(url string) (*http.Request, error)) bool {
	to, err := s.address()
	if err != nil || to == "" {
		return false
	}
	r, err := request("http://" + to + "/orders")
	if err != nil {
		return false
	}
	response, err := s.client.Do(r)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body) // the status says it all
	return response.StatusCode == http.StatusNoContent
}

// address leads through a cable to where the source listens; empty when it does not.
func (s *senders) address() (string, error) {
	at := s.hub.Address(s.listen)
	if at == nil {
		return "", nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.stop:
		return "", nil
	default:
	}
	cable := s.cables[at.String()]
	if cable == nil {
		var err error
		if cable, err = proxy.Start(context.Background(), at.String()); err != nil {
			return "", err
		}
		s.cables[at.String()] = cable
	}
	return cable.Address(), nil
}

func (s *senders) cut(testing.TB) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, cable := range s.cables {
		cable.Set(proxy.State{Cut: true})
		cable.Set(proxy.State{})
	}
}
