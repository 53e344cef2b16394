package webhook_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"log"
	"maps"
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

func TestSinkConformance(t *testing.T) {
	checkSink(t, sinktest.Features{Headers: true, EventIDs: true}, nil)
}

func TestConcurrentSinkConformance(t *testing.T) {
	checkSink(t, sinktest.Features{Variant: "concurrent", Headers: true, EventIDs: true, OrderByKey: true}, values{"concurrency": 8})
}

func TestBatchSinkConformance(t *testing.T) {
	const aList = "a batch is a JSON list of events"
	checkSink(t, sinktest.Features{Variant: "batches", OrderByKey: true, Lacks: conformance.Lacks{
		conformance.Headers:      "a batch has one set of headers; all of an event is in its body",
		conformance.EventID:      "webhook-id is that of the batch; an event's is in its body",
		conformance.BinaryMode:   "a batch is a list of events in structured mode",
		conformance.EmptyBodies:  aList,
		conformance.BinaryBodies: aList,
	}}, values{"concurrency": 8})
}

func checkSink(t *testing.T, features sinktest.Features, more values) {
	t.Helper()
	t.Parallel()
	batches := features.Variant == "batches"
	features.Technology, features.MaxBytes = "webhook", largest
	features.HeadersKept = slices.DeleteFunc(sinktest.OddHeaders(), func(h message.Header) bool { return h.Value == "\x01" })
	lacks := conformance.Lacks{
		conformance.Deduplication: "the service has to recognise webhook-id by itself",
		conformance.Connection:    "HTTP has nothing to connect to before there is an event, and a request more or less is no loss",
		conformance.Lose:          "a service that answered 2xx is not asked again what it has",
	}
	if batches {
		lacks[conformance.Deduplication] = "the service has to recognise the id of each event by itself"
	}
	maps.Copy(lacks, features.Lacks)
	features.Lacks = lacks
	sinktest.Run(t, features, func(t *testing.T) sinktest.Harness {
		far := startFarEnd(t)
		far.batches = batches
		wrong := map[conformance.Need]func(t testing.TB) sinktest.Refusal{}
		for need, mistake := range mistakes() {
			wrong[need] = func(t testing.TB) sinktest.Refusal {
				keys, says, hides := mistake(t)
				return sinktest.Refusal{End: makeSink(t, keys.with(more), batches), Says: says, Hides: hides}
			}
		}
		return sinktest.Harness{
			New: func(t testing.TB) relay.Sink {
				return makeSink(t, local(far.url, values{"max_body_bytes": largest, "path_template": "orders/{op}"}).with(more), batches)
			},
			Stored:  far.stored,
			Restart: far.service.restart, Kill: far.service.restart, Cut: far.cut, Freeze: far.freeze,
			Destination: "orders", Template: "orders/{op}",
			Poison:     far.poison,
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
	// batches says that requests are batches.
	batches bool
}

const poison = `"poison"`

func (f *farEnd) poison(e *message.Envelope) {
	if f.batches {
		e.Body = []byte(poison)
		return
	}
	e.Headers = append(e.Headers, message.Header{Name: "X-Poison", Value: "1"})
}

// stored is what the service took, event by event.
func (f *farEnd) stored(t testing.TB) []message.Envelope {
	t.Helper()
	all := f.service.kept(t)
	if !f.batches {
		return all
	}
	var each []message.Envelope
	for _, e := range all {
		var bodies []json.RawMessage
		if err := json.Unmarshal(e.Body, &bodies); err != nil {
			t.Errorf("a request is no batch: %v", err)
		}
		for _, body := range bodies {
			e.Body = body
			each = append(each, e)
		}
	}
	return each
}

func startFarEnd(t testing.TB) *farEnd {
	t.Helper()
	f := &farEnd{}
	f.service = startService(t, func(_ http.ResponseWriter, r *http.Request, e message.Envelope) int {
		f.hangs.RLock()
		defer f.hangs.RUnlock()
		if r.Context().Err() != nil {
			return http.StatusServiceUnavailable // who asked is gone
		}
		if r.Header.Get("X-Poison") != "" || f.batches && strings.Contains(string(e.Body), poison) {
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
		if f.batches {
			several, err := cloudevents.ReadBatch(request)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, several...)
			continue
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
