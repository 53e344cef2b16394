package webhook_test

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/relay"
	cloudevents "github.com/pg-tide/pg-tide/internal/testkit/cloudevents/http"
	"github.com/pg-tide/pg-tide/internal/testkit/conformance"
	"github.com/pg-tide/pg-tide/internal/testkit/natstest"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
	"github.com/pg-tide/pg-tide/internal/torture/proxy"
)

// largest is a body that the service refuses.
const largest = 2 << 20

func TestSinkConformance(t *testing.T) { checkSink(t, "", false, nil) }

func TestConcurrentSinkConformance(t *testing.T) {
	checkSink(t, "concurrent", true, values{"concurrency": 8})
}

func checkSink(t *testing.T, variant string, byKey bool, more values) {
	t.Helper()
	t.Parallel()
	features := sinktest.Features{
		Technology: "webhook", Variant: variant, MaxBytes: largest, Headers: true, EventIDs: true, OrderByKey: byKey,
		HeadersKept: slices.DeleteFunc(sinktest.OddHeaders(), func(h message.Header) bool { return h.Value == "\x01" }),
		Lacks: conformance.Lacks{
			conformance.Deduplication: "the service has to recognise webhook-id by itself",
			conformance.Connection:    "HTTP has nothing to connect to before there is an event, and a request more or less is no loss",
			conformance.Lose:          "a service that answered 2xx is not asked again what it has",
		},
	}
	sinktest.Run(t, features, func(t *testing.T) sinktest.Harness {
		far := startFarEnd(t)
		wrong := map[conformance.Need]func(t testing.TB) sinktest.Refusal{}
		for need, mistake := range mistakes() {
			wrong[need] = func(t testing.TB) sinktest.Refusal {
				keys, says, hides := mistake(t)
				return sinktest.Refusal{End: newSink(t, keys.with(more)), Says: says, Hides: hides}
			}
		}
		return sinktest.Harness{
			New: func(t testing.TB) relay.Sink {
				return newSink(t, local(far.url, values{"max_body_bytes": largest, "path_template": "orders/{op}"}).with(more))
			},
			Stored:  far.service.kept,
			Restart: far.service.restart, Kill: far.service.restart, Cut: far.cut, Freeze: far.freeze,
			Destination: "orders", Template: "orders/{op}",
			Poison:     func(e *message.Envelope) { e.Headers = append(e.Headers, message.Header{Name: "X-Poison", Value: "1"}) },
			Wrong:      wrong,
			ReadEvents: far.events,
		}
	})
}

func (v values) with(more values) values {
	all := values{}
	for _, some := range []values{v, more} {
		for name, value := range some {
			all[name] = value
		}
	}
	return all
}

// farEnd is a service, an HTTP server of this process that keeps what it took in
// memory, and a cable to it that can be cut or hang.
type farEnd struct {
	service *service
	cable   *proxy.Proxy
	url     string
	hangs   sync.RWMutex
}

func startFarEnd(t testing.TB) *farEnd {
	t.Helper()
	f := &farEnd{}
	f.service = startService(t, func(_ http.ResponseWriter, r *http.Request, _ message.Envelope) int {
		f.hangs.RLock()
		defer f.hangs.RUnlock()
		if r.Context().Err() != nil {
			return http.StatusServiceUnavailable // who asked is gone
		}
		if r.Header.Get("X-Poison") != "" {
			return http.StatusUnprocessableEntity
		}
		return http.StatusNoContent
	})
	cable, err := proxy.Start(context.WithoutCancel(t.Context()), f.service.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cable.Close)
	f.cable, f.url = cable, "http://"+cable.Address()
	return f
}

func (f *farEnd) cut(testing.TB) {
	f.cable.Set(proxy.State{Cut: true})
	f.cable.Set(proxy.State{})
}

func (f *farEnd) freeze(testing.TB) (thaw func()) {
	f.hangs.Lock()
	return f.hangs.Unlock
}

// events reads what the service took with the CloudEvents SDK.
func (f *farEnd) events(t testing.TB) []event.Event {
	t.Helper()
	var all []event.Event
	for _, e := range f.service.stored(t) {
		request := &http.Request{Header: http.Header{}, Body: io.NopCloser(strings.NewReader(string(e.Body)))}
		for _, h := range e.Headers {
			request.Header.Add(h.Name, h.Value)
		}
		one, err := cloudevents.Read(context.WithoutCancel(t.Context()), request)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, *one)
	}
	return all
}

// kept is what was taken, the names of headers as they were sent: HTTP
// compares them without regard to case.
func (s *service) kept(t testing.TB) []message.Envelope {
	all := s.stored(t)
	for i := range all {
		all[i].Destination = strings.TrimPrefix(all[i].Destination, "/")
		for j := range all[i].Headers {
			for _, odd := range sinktest.OddHeaders() {
				if strings.EqualFold(all[i].Headers[j].Name, odd.Name) {
					all[i].Headers[j].Name = odd.Name
				}
			}
		}
	}
	return all
}

// mistakes are configurations that lead nowhere, what the sentence about each
// says, and the secrets that it does not show.
func mistakes() map[conformance.Need]func(t testing.TB) (keys values, says, hides []string) {
	answering := func(status int, says ...string) func(t testing.TB) (values, []string, []string) {
		return func(t testing.TB) (values, []string, []string) {
			s := startService(t, func(http.ResponseWriter, *http.Request, message.Envelope) int { return status })
			return local(s.url(), values{"bearer_token": "hidden"}), says, []string{"hidden"}
		}
	}
	return map[conformance.Need]func(t testing.TB) (values, []string, []string){
		conformance.Unreachable: func(testing.TB) (values, []string, []string) {
			// A port that was just left may be another test's by now.
			return local("http://127.0.0.1:1?key=hidden", nil), []string{"is not reachable", "check url"}, []string{"hidden"}
		},
		conformance.WrongLogin:    answering(http.StatusUnauthorized, "answered 401", "check signing_secret, bearer_token"),
		conformance.NoPermission:  answering(http.StatusForbidden, "answered 403", "check signing_secret, bearer_token"),
		conformance.NoDestination: answering(http.StatusNotFound, "answered 404", "check url"),
		conformance.WrongName: func(t testing.TB) (values, []string, []string) {
			certificates := natstest.NewCertificates(t)
			return local(serveTLS(t, certificates), values{"tls_ca_file": certificates.CA, "tls_server_name": "elsewhere.test"}),
				[]string{"is for another name", "set tls_server_name"}, nil
		},
		conformance.UnknownIssuer: func(t testing.TB) (values, []string, []string) {
			return local(serveTLS(t, natstest.NewCertificates(t)), values{"tls_ca_file": natstest.NewCertificates(t).CA}),
				[]string{"not trusted", "set tls_ca_file"}, nil
		},
	}
}

// serveTLS starts a service with a certificate, and returns its address.
func serveTLS(t testing.TB, certificates *natstest.Certificates) string {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(certificates.ServerCert, certificates.ServerKey)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}
