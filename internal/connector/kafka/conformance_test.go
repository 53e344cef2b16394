package kafka_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/pg-tide/pg-tide/internal/connector/kafka"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/relay"
	cloudevents "github.com/pg-tide/pg-tide/internal/testkit/cloudevents/kafka"
	"github.com/pg-tide/pg-tide/internal/testkit/conformance"
	"github.com/pg-tide/pg-tide/internal/testkit/kafkatest"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
	"github.com/pg-tide/pg-tide/internal/testkit/sourcetest"
)

// largest is a body that the topics of the cases refuse: room for 1 MiB and headers.
const largest = 2 << 20

// farEnd is a topic of a broker, and a way to it that can be cut.
type farEnd struct {
	cluster *kafkatest.Cluster
	topic   string
	brokers string
}

// startFarEnd takes the shared broker, or one of its own for a case that disturbs it:
// what was done to a broker before must not decide a case.
func startFarEnd(t *testing.T, disturbs bool) *farEnd {
	t.Helper()
	f := &farEnd{topic: topicOf(t) + ".insert"}
	// Cuts go through a way of the case's own.
	if disturbs || strings.Contains(t.Name(), "_cut") || strings.Contains(t.Name(), "_idle_") {
		f.cluster = kafkatest.Start(t, kafkatest.Options{Ways: 1})
		f.brokers = f.cluster.Between(0).Brokers()
		f.awaitCoordinators(t)
	} else {
		f.cluster = brokers.Get(t)
		f.brokers = f.cluster.Brokers()
	}
	makeTopic(t, f.cluster.Brokers(), f.topic, 1, map[string]string{"max.message.bytes": "2097152"})
	return f
}

// awaitCoordinators waits until a fresh broker can have groups and transactions.
func (f *farEnd) awaitCoordinators(t testing.TB) {
	t.Helper()
	client := plain(t, f.cluster.Brokers(), kgo.TransactionalID("warm"))
	ctx := background(t)
	kafkatest.Eventually(t, "the broker can have transactions", func() bool {
		_, _, err := client.ProducerID(ctx)
		return err == nil
	})
	kafkatest.Eventually(t, "the broker can have groups", func() bool {
		_, err := kadm.NewClient(client).FetchOffsets(ctx, "warm")
		return err == nil || errors.Is(err, kerr.GroupIDNotFound)
	})
}

func (f *farEnd) template() string { return strings.TrimSuffix(f.topic, "insert") + "{op}" }

// stored is all that lies behind the template's prefix.
func (f *farEnd) stored(t testing.TB) []message.Envelope {
	t.Helper()
	details, err := kadm.NewClient(plain(t, f.cluster.Brokers())).ListTopics(background(t))
	if err != nil {
		t.Fatalf("list the topics: %v", err)
	}
	var names []string
	for _, name := range details.Names() {
		if strings.HasPrefix(name, strings.TrimSuffix(f.topic, "insert")) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return stored(t, f.cluster.Brokers(), names...)
}

func (f *farEnd) restart(t testing.TB) {
	t.Helper()
	if err := f.cluster.Stop(); err != nil {
		t.Fatalf("stop Kafka: %v", err)
	}
	f.cluster.Restart(t)
}

func (f *farEnd) kill(t testing.TB) {
	t.Helper()
	f.cluster.Kill()
	f.cluster.Restart(t)
}

func (f *farEnd) cut(testing.TB) {
	f.cluster.Between(0).Cut()
	f.cluster.Between(0).Mend()
}

func (f *farEnd) freeze(t testing.TB) (thaw func()) {
	t.Helper()
	f.cluster.Freeze(t)
	return func() { f.cluster.Thaw(t) }
}

// lose deletes the topic and makes it anew.
func (f *farEnd) lose(t testing.TB) {
	t.Helper()
	if _, err := kadm.NewClient(plain(t, f.cluster.Brokers())).DeleteTopics(background(t), f.topic); err != nil {
		t.Fatalf("delete topic %s: %v", f.topic, err)
	}
	kafkatest.Eventually(t, "the topic can be made again", func() bool {
		configs := map[string]*string{"max.message.bytes": kadm.StringPtr("2097152")}
		_, err := kadm.NewClient(plain(t, f.cluster.Brokers())).CreateTopic(background(t), 1, -1, configs, f.topic)
		return err == nil
	})
}

func makeTopic(t testing.TB, addresses, topic string, partitions int32, configs map[string]string) {
	t.Helper()
	all := map[string]*string{}
	for key, value := range configs {
		all[key] = kadm.StringPtr(value)
	}
	if _, err := kadm.NewClient(plain(t, addresses)).CreateTopic(background(t), partitions, -1, all, topic); err != nil {
		t.Fatalf("create topic %s: %v", topic, err)
	}
}

func TestSinkConformance(t *testing.T) {
	t.Parallel()
	checkSink(t, "", values{"compression": "zstd"})
}

func TestTransactionalSinkConformance(t *testing.T) {
	t.Parallel()
	checkSink(t, "transactional", values{"transactional": true})
}

func noLacks() conformance.Lacks {
	return conformance.Lacks{
		conformance.EventID:       "a record has no id beside its headers; the id travels in ce_id",
		conformance.Deduplication: "Kafka does not know events by an id; what is sent again is a second record with the same ce_id, which the inbox knows",
	}
}

func checkSink(t *testing.T, variant string, more values) {
	t.Helper()
	secured := newGuarded(t)
	features := sinktest.Features{Technology: "kafka", Variant: variant, MaxBytes: largest, Headers: true, Lacks: noLacks()}
	sinktest.Run(t, features, func(t *testing.T) sinktest.Harness {
		far := startFarEnd(t, sinktest.Disturbs(t))
		config := values{"brokers": far.brokers, "topic_template": far.template()}.with(more)
		if config.Bool("transactional") {
			config["transactional_id"] = far.topic
		}
		wrong := map[conformance.Need]func(t testing.TB) sinktest.Refusal{}
		for need, mistake := range mistakes(far.topic, secured) {
			wrong[need] = func(t testing.TB) sinktest.Refusal {
				bad, says, hides := mistake(t)
				return sinktest.Refusal{End: newSink(t, bad.with(more)), Says: says, Hides: hides}
			}
		}
		h := &heir{far: far, config: config}
		return sinktest.Harness{
			New:     h.newSink,
			Stored:  h.stored,
			Restart: far.restart, Kill: h.kill, Cut: far.cut, Freeze: far.freeze,
			Destination: far.topic, Template: far.template(), Lose: far.lose,
			Poison:     func(e *message.Envelope) { e.Destination = "no/topic" },
			Wrong:      wrong,
			ReadEvents: func(t testing.TB) []event.Event { return readEvents(t, far) },
		}
	})
}

func TestSourceConformance(t *testing.T) {
	t.Parallel()
	secured := newGuarded(t)
	lacks := noLacks()
	delete(lacks, conformance.Deduplication) // a matter of sinks
	lacks[conformance.UnacknowledgedLimit] = "a consumer group delivers however much is not committed; the relay itself fetches only so much ahead"
	features := sourcetest.Features{Technology: "kafka", Headers: true, Lacks: lacks}
	sourcetest.Run(t, features, func(t *testing.T) sourcetest.Harness {
		far := startFarEnd(t, sourcetest.Disturbs(t))
		config := values{"brokers": far.brokers, "topic": far.topic, "group_id": far.topic}
		client := plain(t, far.cluster.Brokers(), kgo.ProducerBatchMaxBytes(largest))
		wrong := map[conformance.Need]func(t testing.TB) sourcetest.Refusal{}
		for need, mistake := range mistakes(far.topic, secured) {
			wrong[need] = func(t testing.TB) sourcetest.Refusal {
				bad, says, hides := mistake(t)
				return sourcetest.Refusal{End: newSource(t, bad, "db-1"), Says: says, Hides: hides}
			}
		}
		return sourcetest.Harness{
			New:     func(t testing.TB) relay.Source { return newSource(t, config, "db-1") },
			Publish: func(t testing.TB, envelopes []message.Envelope) { publish(t, client, envelopes) },
			Crash:   func(t testing.TB, source relay.Source) { kafka.Crash(source.(*kafka.Source)) },
			Restart: far.restart, Kill: far.kill, Cut: far.cut, Freeze: far.freeze,
			Destination: far.topic,
			Wrong:       wrong,
			WriteEvents: func(t testing.TB, events []event.Event, structured bool) {
				for i := range events {
					value, headers, err := cloudevents.Write(background(t), &events[i], structured)
					if err != nil {
						t.Fatal(err)
					}
					r := &kgo.Record{Topic: far.topic, Value: value}
					for _, h := range headers {
						r.Headers = append(r.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
					}
					if err := client.ProduceSync(background(t), r).FirstErr(); err != nil {
						t.Fatal(err)
					}
				}
			},
		}
	})
}

// heir reads after a kill as whoever comes after a relay's next session. Where
// transactions are used readers may wait for that session: the sink's settle
// says why. It sends nothing, so that what was lost stays lost.
type heir struct {
	far    *farEnd
	config values
	last   *kafka.Sink
	killed bool
}

func (h *heir) newSink(t testing.TB) relay.Sink {
	h.last = newSink(t, h.config)
	return h.last
}

func (h *heir) kill(t testing.TB) {
	h.killed = true
	h.far.kill(t)
}

func (h *heir) stored(t testing.TB) []message.Envelope {
	t.Helper()
	if h.killed && h.config.Bool("transactional") {
		next := newSink(t, h.config)
		open(background(t), t, next)
		if proof, err := next.Prove(background(t), h.last.Mark()); err != nil || proof.Lost != "" {
			t.Fatalf("after a kill the next session finds %+v, %v", proof, err)
		}
	}
	return h.far.stored(t)
}

// guarded is a broker with every kind of listener and login, which the cases of
// one suite share.
type guarded struct {
	kafkatest.Shared
	certificates *kafkatest.Certificates
}

func newGuarded(t *testing.T) *guarded {
	t.Helper()
	g := &guarded{certificates: kafkatest.NewCertificates(t)}
	g.Options = kafkatest.Options{Certificates: g.certificates, Users: map[string]string{"nobody": "hidden"}, Authorize: true}
	t.Cleanup(g.Close)
	return g
}

// mistakes are configurations that lead nowhere, what the sentence about each
// says, and the secrets that it does not show.
func mistakes(topic string, secured *guarded) map[conformance.Need]func(t testing.TB) (config values, says, hides []string) {
	base := values{"topic_template": topic, "topic": topic, "group_id": topic}
	login := values{"sasl_mechanism": "PLAIN", "sasl_username": "nobody", "sasl_password": "hidden", "sasl_without_tls": true}
	return map[conformance.Need]func(t testing.TB) (values, []string, []string){
		conformance.Unreachable: func(testing.TB) (values, []string, []string) {
			return base.with(login).with(values{"brokers": "127.0.0.1:1"}), []string{"is not reachable", "check brokers"}, []string{"hidden"}
		},
		conformance.WrongLogin: func(t testing.TB) (values, []string, []string) {
			return base.with(login).with(values{"brokers": secured.Get(t).LoginBrokers(), "sasl_password": "guess"}), []string{"refuses the login", "sasl_password"}, []string{"guess"}
		},
		conformance.WrongName: func(t testing.TB) (values, []string, []string) {
			c := secured.Get(t)
			return base.with(values{"brokers": c.TLSBrokers(), "tls_ca_file": secured.certificates.CA, "tls_server_name": "elsewhere.test"}), []string{"is for another name", "set tls_server_name"}, nil
		},
		conformance.UnknownIssuer: func(t testing.TB) (values, []string, []string) {
			return base.with(values{"brokers": secured.Get(t).TLSBrokers(), "tls_ca_file": kafkatest.NewCertificates(t).CA}), []string{"not trusted", "set tls_ca_file"}, nil
		},
		conformance.NoDestination: func(t testing.TB) (values, []string, []string) {
			return base.with(values{"brokers": brokers.Get(t).Brokers(), "topic": "nowhere", "topic_template": "nowhere", "create_topic": false}), []string{`topic "nowhere" is missing`, "create_topic is false"}, nil
		},
		conformance.NoPermission: func(t testing.TB) (values, []string, []string) {
			return base.with(login).with(values{"brokers": secured.Get(t).LoginBrokers()}), []string{"do not permit it", "grant"}, []string{"hidden"}
		},
	}
}

// readEvents reads a whole topic with the CloudEvents SDK.
func readEvents(t testing.TB, far *farEnd) []event.Event {
	t.Helper()
	envelopes := far.stored(t)
	all := make([]event.Event, len(envelopes))
	for i := range envelopes {
		var headers []cloudevents.Header
		for _, h := range envelopes[i].Headers {
			headers = append(headers, cloudevents.Header{Key: h.Name, Value: []byte(h.Value)})
		}
		e, err := cloudevents.Read(background(t), envelopes[i].Body, headers)
		if err != nil {
			t.Fatal(err)
		}
		all[i] = *e
	}
	return all
}
