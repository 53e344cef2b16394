package webhook_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pg-tide/pg-tide/internal/config"
	"github.com/pg-tide/pg-tide/internal/connector/webhook"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = time.Minute

// secret is that of the specification's own example.
const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// service is a real HTTP server that keeps what it took, and that can be
// stopped and started again at the same address.
type service struct {
	t       testing.TB
	address string
	server  *http.Server

	mu    sync.Mutex
	got   []*http.Request
	taken []message.Envelope
	// answer returns the status of a request; nil takes everything.
	answer func(w http.ResponseWriter, r *http.Request, e message.Envelope) int
}

func startService(t testing.TB, answer func(w http.ResponseWriter, r *http.Request, e message.Envelope) int) *service {
	t.Helper()
	s := &service{t: t, address: "127.0.0.1:0", answer: answer}
	s.start()
	t.Cleanup(s.stop)
	return s
}

func (s *service) start() {
	s.t.Helper()
	listener, err := net.Listen("tcp", s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.address = listener.Addr().String()
	server := &http.Server{Handler: s, ReadHeaderTimeout: patience}
	s.server = server
	go func() { _ = server.Serve(listener) }() // ends with stop
}

func (s *service) stop() { _ = s.server.Close() }

func (s *service) restart(testing.TB) {
	s.stop()
	s.start()
}

func (s *service) url() string { return "http://" + s.address }

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // cut off
	}
	e := message.Envelope{Destination: r.URL.EscapedPath(), EventID: r.Header.Get("webhook-id"), Key: r.Header.Get("ce-subject"), Body: body}
	for name, values := range r.Header {
		e.Headers = append(e.Headers, message.Header{Name: name, Value: values[0]})
	}
	s.mu.Lock()
	s.got = append(s.got, r)
	answer := s.answer
	s.mu.Unlock()
	status := http.StatusNoContent
	if answer != nil {
		status = answer(w, r, e)
	}
	if status/100 == 2 {
		s.mu.Lock()
		s.taken = append(s.taken, e)
		s.mu.Unlock()
	}
	w.WriteHeader(status)
}

func (s *service) stored(testing.TB) []message.Envelope {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.taken)
}

func (s *service) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.got)
}

// ofKey are the ids that were taken of a key, in order.
func (s *service) ofKey(t testing.TB, key string) (ids []string) {
	for _, e := range s.stored(t) {
		if e.Key == key {
			ids = append(ids, e.EventID)
		}
	}
	return ids
}

type values map[string]any

// decoded decodes keys as the relay does.
func decoded(t testing.TB, fields []config.Field, keys values) (config.Values, error) {
	t.Helper()
	text, err := json.Marshal(keys)
	if err != nil {
		t.Fatal(err)
	}
	v, _, err := config.Decode(fields, text, config.Resolver{LookupEnv: os.LookupEnv, ReadFile: os.ReadFile})
	return v, err
}

// local is the configuration that reaches a service of a test.
func local(url string, more values) values {
	all := values{"url": url, "allow_networks": "127.0.0.0/8, ::1"}
	for name, value := range more {
		all[name] = value
	}
	return all
}

func newSink(t testing.TB, keys values) *webhook.Sink {
	t.Helper()
	return makeSink(t, keys, false)
}

func makeSink(t testing.TB, keys values, batches bool) *webhook.Sink {
	t.Helper()
	v, err := decoded(t, webhook.SinkFields(), keys)
	if err != nil {
		t.Fatal(err)
	}
	sink, err := webhook.NewSink(v, webhook.SinkDeps{Templates: []string{v.String("path_template")}, Batches: batches})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sink.Close(context.Background()) })
	return sink
}

func opened(t testing.TB, keys values) *webhook.Sink {
	t.Helper()
	sink := newSink(t, keys)
	if err := sink.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	return sink
}

func newSender(t testing.TB, keys values) *webhook.Sender {
	t.Helper()
	v, err := decoded(t, webhook.SendFields(1), keys)
	if err != nil {
		t.Fatal(err)
	}
	sender, err := webhook.NewSender(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := sender.Open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sender.Close)
	return sender
}

// send sends envelopes and waits for their receipt.
func send(t testing.TB, sink *webhook.Sink, envelopes []message.Envelope) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	receipt, err := sink.Send(ctx, envelopes)
	if err != nil {
		return err
	}
	return receipt.Wait(ctx)
}

// events makes n events of each key, in turns: "<key>-<number>".
func events(n int, keys ...string) []message.Envelope {
	var all []message.Envelope
	for i := range n {
		for _, key := range keys {
			e := sinktest.Envelopes("/", i+1, 1)[0]
			e.EventID, e.Key = key+"-"+string(rune('1'+i)), key
			e.Headers = []message.Header{{Name: "ce-subject", Value: key}}
			all = append(all, e)
		}
	}
	return all
}

func idsOf(envelopes []message.Envelope, key string) (ids []string) {
	for i := range envelopes {
		if envelopes[i].Key == key {
			ids = append(ids, envelopes[i].EventID)
		}
	}
	return ids
}
