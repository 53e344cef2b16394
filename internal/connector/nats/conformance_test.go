package nats_test

import (
	"context"
	"strings"
	"testing"

	"github.com/cloudevents/sdk-go/v2/event"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pg-tide/pg-tide/internal/connector/nats"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/relay"
	cloudevents "github.com/pg-tide/pg-tide/internal/testkit/cloudevents/nats"
	"github.com/pg-tide/pg-tide/internal/testkit/conformance"
	"github.com/pg-tide/pg-tide/internal/testkit/natstest"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
	"github.com/pg-tide/pg-tide/internal/testkit/sourcetest"
	"github.com/pg-tide/pg-tide/internal/torture/proxy"
)

const (
	conformingTemplate    = "events.orders.{op}"
	conformingDestination = "events.orders.insert"
	// largest is a body that the broker refuses: room for 1 MiB and headers.
	largest = 2 << 20
)

func TestSinkConformance(t *testing.T) { checkSink(t, "", nil) }

func TestAtomicSinkConformance(t *testing.T) { checkSink(t, "atomic", values{"atomic": true}) }

func checkSink(t *testing.T, variant string, more values) {
	t.Helper()
	t.Parallel()
	features := sinktest.Features{Technology: "nats", Variant: variant, DropsDuplicates: true, MaxBytes: largest, Headers: true, EventIDs: true}
	sinktest.Run(t, features, func(t *testing.T) sinktest.Harness {
		far := startFarEnd(t)
		wrong := map[conformance.Need]func(t testing.TB) sinktest.Refusal{}
		for need, mistake := range mistakes() {
			wrong[need] = func(t testing.TB) sinktest.Refusal {
				config, says, hides := mistake(t)
				config["subject_template"] = conformingTemplate
				return sinktest.Refusal{End: newSink(t, config.with(more)), Says: says, Hides: hides}
			}
		}
		return sinktest.Harness{
			New: func(t testing.TB) relay.Sink {
				return newSink(t, values{"url": far.url, "subject_template": conformingTemplate}.with(more))
			},
			Stored:  func(t testing.TB) []message.Envelope { return stored(t, far.js, "tide-events") },
			Restart: far.server.Restart, Kill: far.kill, Cut: far.cut, Freeze: far.freeze,
			Destination: conformingDestination, Template: conformingTemplate,
			Lose: func(t testing.TB) {
				if err := far.js.DeleteStream(background(t), "tide-events"); err != nil {
					t.Fatal(err)
				}
			},
			// a header that would delete what the stream holds
			Poison:     func(e *message.Envelope) { e.Headers = append(e.Headers, header("Nats-Rollup", "all")) },
			Wrong:      wrong,
			ReadEvents: func(t testing.TB) []event.Event { return readEvents(t, far.js, "tide-events") },
		}
	})
}

func TestSourceConformance(t *testing.T) {
	t.Parallel()
	features := sourcetest.Features{Technology: "nats", Headers: true, MessageIDs: true, MaxUnacknowledged: 200}
	sourcetest.Run(t, features, func(t *testing.T) sourcetest.Harness {
		far := startFarEnd(t)
		config := values{"url": far.url, "subject": "events.orders.>", "durable_name": "payments", "max_ack_pending": 200}
		open(background(t), t, newSink(t, values{"url": far.url, "subject_template": conformingTemplate}))
		wrong := map[conformance.Need]func(t testing.TB) sourcetest.Refusal{}
		for need, mistake := range mistakes() {
			wrong[need] = func(t testing.TB) sourcetest.Refusal {
				config, says, hides := mistake(t)
				return sourcetest.Refusal{End: newSource(t, config.with(values{"subject": "events.orders.>"}), "db-1"), Says: says, Hides: hides}
			}
		}
		return sourcetest.Harness{
			New:     func(t testing.TB) relay.Source { return newSource(t, config, "db-1") },
			Publish: func(t testing.TB, envelopes []message.Envelope) { publish(t, far.js, envelopes) },
			Crash:   func(t testing.TB, source relay.Source) { nats.Crash(source.(*nats.Source)) },
			Restart: far.server.Restart, Kill: far.kill, Cut: far.cut, Freeze: far.freeze,
			Destination: conformingDestination,
			Wrong:       wrong,
			WriteEvents: func(t testing.TB, events []event.Event, structured bool) {
				for i := range events {
					m, err := cloudevents.Write(background(t), conformingDestination, &events[i], structured)
					if err != nil {
						t.Fatal(err)
					}
					publishOne(t, far.js, m)
				}
			},
		}
	})
}

// farEnd is a server, and a cable to it that can be cut.
type farEnd struct {
	server *natstest.Server
	js     jetstream.JetStream
	cable  *proxy.Proxy
	url    string
}

func startFarEnd(t testing.TB) *farEnd {
	t.Helper()
	server := natstest.Start(t, natstest.Options{MaxPayload: largest})
	cable, err := proxy.Start(background(t), strings.TrimPrefix(server.URL(), "nats://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cable.Close)
	return &farEnd{server: server, js: server.JetStream(t), cable: cable, url: "nats://" + cable.Address()}
}

func (f *farEnd) kill(t testing.TB) {
	t.Helper()
	f.server.Kill()
	if err := f.server.Run(); err != nil {
		t.Fatalf("start the server again: %v", err)
	}
}

func (f *farEnd) cut(testing.TB) {
	f.cable.Set(proxy.State{Cut: true})
	f.cable.Set(proxy.State{})
}

func (f *farEnd) freeze(t testing.TB) (thaw func()) {
	t.Helper()
	f.server.Freeze(t)
	return func() { f.server.Thaw(t) }
}

// mistakes are configurations that lead nowhere, what the sentence about each
// says, and the secrets that it does not show.
func mistakes() map[conformance.Need]func(t testing.TB) (config values, says, hides []string) {
	return map[conformance.Need]func(t testing.TB) (values, []string, []string){
		conformance.Unreachable: func(t testing.TB) (values, []string, []string) {
			server := natstest.Start(t, natstest.Options{})
			server.Stop()
			return values{"url": server.URL(), "username": "app", "password": "hidden"}, []string{"is not reachable", "check url"}, []string{"hidden"}
		},
		conformance.WrongLogin: func(t testing.TB) (values, []string, []string) {
			server := natstest.Start(t, natstest.Options{Login: natstest.Users(map[string]string{"app": ""})})
			return values{"url": server.URL(), "username": "app", "password": "guess"}, []string{"refuses the login", "check username and password"}, []string{"guess"}
		},
		conformance.WrongName: func(t testing.TB) (values, []string, []string) {
			certificates := natstest.NewCertificates(t)
			server := natstest.Start(t, natstest.Options{TLS: certificates})
			return values{"url": server.URL(), "tls_ca_file": certificates.CA, "tls_server_name": "elsewhere.test"}, []string{"is for another name", "set tls_server_name"}, nil
		},
		conformance.UnknownIssuer: func(t testing.TB) (values, []string, []string) {
			server := natstest.Start(t, natstest.Options{TLS: natstest.NewCertificates(t)})
			return values{"url": server.URL(), "tls_ca_file": natstest.NewCertificates(t).CA}, []string{"not trusted", "set tls_ca_file"}, nil
		},
		conformance.NoDestination: func(t testing.TB) (values, []string, []string) {
			server := natstest.Start(t, natstest.Options{})
			return values{"url": server.URL(), "create_stream": false}, []string{"no stream takes events.orders.", "create_stream is false"}, nil
		},
		conformance.NoPermission: func(t testing.TB) (values, []string, []string) {
			server := natstest.Start(t, natstest.Options{Login: natstest.Users(map[string]string{"app": allow("elsewhere.>")})})
			return values{"url": server.URL(), "username": "app", "password": natstest.Password("app")},
				[]string{"does not permit it", "is refused", "grant"}, []string{natstest.Password("app")}
		},
	}
}

// readEvents reads a whole stream with the CloudEvents SDK.
func readEvents(t testing.TB, js jetstream.JetStream, name string) []event.Event {
	t.Helper()
	ctx := background(t)
	stream, err := js.Stream(ctx, name)
	if err != nil {
		t.Fatalf("look up stream %s: %v", name, err)
	}
	var all []event.Event
	for sequence := uint64(1); sequence <= stream.CachedInfo().State.LastSeq; sequence++ {
		all = append(all, readEvent(ctx, t, stream, sequence))
	}
	return all
}

func readEvent(ctx context.Context, t testing.TB, stream jetstream.Stream, sequence uint64) event.Event {
	t.Helper()
	raw, err := stream.GetMsg(ctx, sequence)
	if err != nil {
		t.Fatalf("read message %d: %v", sequence, err)
	}
	e, err := cloudevents.Read(ctx, &natsgo.Msg{Subject: raw.Subject, Header: raw.Header, Data: raw.Data})
	if err != nil {
		t.Fatal(err)
	}
	return *e
}
