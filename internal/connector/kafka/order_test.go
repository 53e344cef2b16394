package kafka_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
)

func bodies(envelopes []message.Envelope) string {
	all := make([]string, len(envelopes))
	for i := range envelopes {
		all[i] = string(envelopes[i].Body)
	}
	return strings.Join(all, " ")
}

// produces makes a fault of produce requests.
func produces(err *kerr.Error, count int) kfake.Fault {
	return kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: err, Count: count}
}

// What the client gives up must not be overtaken by what was sent behind it.
func TestStoresNothingBehindAnEventThatWasLostBeforeTheNextOpen(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]*kerr.Error{
		"unknown server error":    kerr.UnknownServerError,
		"too few replicas":        kerr.NotEnoughReplicas,
		"no permission":           kerr.TopicAuthorizationFailed,
		"unexpected sequence":     kerr.OutOfOrderSequenceNumber,
		"forgotten producer":      kerr.UnknownProducerID,
		"disk":                    kerr.KafkaStorageError,
		"stored, not replicated":  kerr.NotEnoughReplicasAfterAppend,
		"another producer's turn": kerr.InvalidProducerEpoch,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := startFake(t)
			ctx := background(t)
			sink := newSink(t, values{"brokers": f.brokers(), "topic_template": "t"})
			open(ctx, t, sink)
			all := sinktest.Envelopes("t", 1, 30)
			if err := send(ctx, sink, all[:10]...); err != nil {
				t.Fatal(err)
			}
			handle := f.Fault(produces(fault, -1))
			var receipts []delivery.Receipt
			for from := 10; from < 20; from += 5 {
				receipt, err := sink.Send(ctx, all[from:from+5])
				if err != nil {
					t.Fatal(err)
				}
				receipts = append(receipts, receipt)
			}
			if err := receipts[0].Wait(ctx); err == nil {
				t.Fatal("stored in spite of the fault")
			}
			handle.Remove()
			// The fault is over, and the session goes on being over.
			if receipt, err := sink.Send(ctx, all[20:]); err == nil {
				receipts = append(receipts, receipt)
			}
			for _, receipt := range receipts[1:] {
				if err := receipt.Wait(ctx); err == nil {
					t.Error("what was sent behind a lost event was acknowledged")
				}
			}
			if err := sink.Open(ctx); err != nil {
				t.Fatal(err)
			}
			if err := send(ctx, sink, all[10:]...); err != nil {
				t.Fatal(err)
			}
			if got, want := firsts(stored(t, f.brokers(), "t")), bodies(all); got != want {
				t.Errorf("stored in the order\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// firsts is the order in which events appear, as one sees it who knows ids.
func firsts(envelopes []message.Envelope) string {
	seen := map[string]bool{}
	var all []message.Envelope
	for i := range envelopes {
		if !seen[string(envelopes[i].Body)] {
			seen[string(envelopes[i].Body)] = true
			all = append(all, envelopes[i])
		}
	}
	return bodies(all)
}

// The client retries by itself what the broker may take in a moment, and the
// broker knows by sequence numbers what it has.
func TestStoresOnceWhatTheClientSendsAgain(t *testing.T) {
	t.Parallel()
	for _, fault := range []*kerr.Error{kerr.NotLeaderForPartition, kerr.NotEnoughReplicasAfterAppend, kerr.RequestTimedOut} {
		t.Run(fault.Message, func(t *testing.T) {
			t.Parallel()
			f := startFake(t)
			ctx := background(t)
			sink := newSink(t, values{"brokers": f.brokers(), "topic_template": "t"})
			open(ctx, t, sink)
			all := sinktest.Envelopes("t", 1, 20)
			if err := send(ctx, sink, all[:10]...); err != nil {
				t.Fatal(err)
			}
			handle := f.Fault(produces(fault, 2))
			if err := send(ctx, sink, all[10:]...); err != nil {
				t.Fatal(err)
			}
			if handle.Hits() != 2 {
				t.Errorf("the fault was met %d times", handle.Hits())
			}
			if got, want := bodies(stored(t, f.brokers(), "t")), bodies(all); got != want {
				t.Errorf("stored %s, want %s", got, want)
			}
		})
	}
}

// A broker refuses a batch as a whole; whose fault it was is found by sending
// its events alone, and then it is refused in front of those behind it.
func TestFindsTheOneEventThatTheBrokerRefusesAndKeepsTheOrderOfTheOthers(t *testing.T) {
	t.Parallel()
	for name, more := range map[string]values{"idempotent": nil, "transactional": {"transactional": true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := startFake(t)
			ctx := background(t)
			sink := newSink(t, values{"brokers": f.brokers(), "topic_template": "t"}.with(more))
			all := sinktest.Envelopes("t", 1, 20)
			all[13].Body = []byte("poison")
			f.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
				f.KeepControl()
				return refusePoison(r.(*kmsg.ProduceRequest))
			})
			rest := all
			attempts := 0
			for len(rest) > 0 {
				if attempts++; attempts > 20 {
					t.Fatal("the event is never found")
				}
				if err := sink.Open(ctx); err != nil {
					t.Fatal(err)
				}
				rest = sendAsTheEngineDoes(ctx, t, sink, rest)
			}
			if err := sink.Close(ctx); err != nil {
				t.Fatal(err)
			}
			want := bodies(append(append([]message.Envelope{}, all[:13]...), all[14:]...))
			if got := firsts(stored(t, f.brokers(), "t")); got != want {
				t.Errorf("stored\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// sendAsTheEngineDoes sends in batches of five until something fails, and
// returns what is to be sent in the next session.
func sendAsTheEngineDoes(ctx context.Context, t *testing.T, sink sender, rest []message.Envelope) []message.Envelope {
	t.Helper()
	for len(rest) > 0 {
		batch := rest[:min(5, len(rest))]
		err := send(ctx, sink, batch...)
		if err == nil {
			rest = rest[len(batch):]
			continue
		}
		partial, ok := err.(*delivery.Partial) //nolint:errorlint // as the engine has it
		if !ok {
			if verdict, _ := delivery.VerdictOf(err); verdict != delivery.VerdictRetry {
				t.Fatalf("an error with the verdict %v: %v", verdict, err)
			}
			return rest
		}
		kept := make([]message.Envelope, 0, len(rest))
		for i := range rest {
			if i < len(batch) && partial.Failed[i] != nil {
				wantError(t, partial.Failed[i], delivery.VerdictReject, "refuses the event")
				if string(rest[i].Body) != "poison" {
					t.Fatalf("event %q was refused", rest[i].Body)
				}
				continue
			}
			kept = append(kept, rest[i])
		}
		rest = kept
	}
	return rest
}

// refusePoison answers a request that has the poisonous event as a broker does
// to which a record is invalid.
func refusePoison(r *kmsg.ProduceRequest) (kmsg.Response, error, bool) {
	for i := range r.Topics {
		for j := range r.Topics[i].Partitions {
			if !strings.Contains(string(r.Topics[i].Partitions[j].Records), "poison") {
				continue
			}
			response := r.ResponseKind().(*kmsg.ProduceResponse)
			topic := kmsg.NewProduceResponseTopic()
			topic.Topic, topic.TopicID = r.Topics[i].Topic, r.Topics[i].TopicID
			partition := kmsg.NewProduceResponseTopicPartition()
			partition.Partition, partition.ErrorCode = r.Topics[i].Partitions[j].Partition, kerr.InvalidRecord.Code
			topic.Partitions = append(topic.Partitions, partition)
			response.Topics = append(response.Topics, topic)
			return response, nil, true
		}
	}
	return nil, nil, false
}

func TestRefusesAnEventThatIsAloneWithoutEndingTheSession(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	ctx := background(t)
	sink := newSink(t, values{"brokers": f.brokers(), "topic_template": "t"})
	open(ctx, t, sink)
	all := sinktest.Envelopes("t", 1, 3)
	f.Fault(produces(kerr.InvalidRecord, 1))
	wantError(t, send(ctx, sink, all[0]), delivery.VerdictReject, "refuses the event", "topic t")
	if err := send(ctx, sink, all...); err != nil {
		t.Fatalf("the session ended: %v", err)
	}
	if got, want := bodies(stored(t, f.brokers(), "t")), bodies(all); got != want {
		t.Errorf("stored %s, want %s", got, want)
	}
}

func TestAsksForTheLeaseBeforeEachWave(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	ctx := background(t)
	sink := newSink(t, values{"brokers": f.brokers(), "topic_template": "t"})
	lost := fmt.Errorf("the lease is over")
	owned := true
	sink.Guard(func() error {
		if owned {
			return nil
		}
		return lost
	})
	open(ctx, t, sink)
	all := sinktest.Envelopes("t", 1, 4)
	if err := send(ctx, sink, all[:2]...); err != nil {
		t.Fatal(err)
	}
	receipt, err := sink.Send(ctx, all[2:])
	if err != nil {
		t.Fatal(err)
	}
	owned = false
	wantError(t, receipt.Wait(ctx), delivery.VerdictRetry, lost.Error())
	if got := len(stored(t, f.brokers(), "t")); got != 2 {
		t.Errorf("%d events are stored, and 2 were sent while the pipeline was owned", got)
	}
}

func TestReasonsSayWhatTheBrokerLacks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fault   *kerr.Error
		verdict delivery.Verdict
		parts   []string
	}{
		{kerr.NotEnoughReplicas, delivery.VerdictRetry, []string{"partition 0 of topic t", "min.insync.replicas"}},
		{kerr.TopicAuthorizationFailed, delivery.VerdictMisconfigured, []string{"topic t", "do not permit", "WRITE"}},
		{kerr.KafkaStorageError, delivery.VerdictRetry, []string{"disk"}},
	} {
		t.Run(c.fault.Message, func(t *testing.T) {
			t.Parallel()
			f := startFake(t)
			ctx := background(t)
			sink := newSink(t, values{"brokers": f.brokers(), "topic_template": "t"})
			open(ctx, t, sink)
			f.Fault(produces(c.fault, -1))
			wantError(t, send(ctx, sink, sinktest.Envelopes("t", 1, 3)...), c.verdict, c.parts...)
		})
	}
}

func TestTheLeadersAcknowledgementIsTakenAndDoubted(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	ctx := background(t)
	sink := newSink(t, values{"brokers": f.brokers(), "topic_template": "t", "acks": "leader"})
	open(ctx, t, sink)
	if remark := sink.Remark(); !strings.Contains(remark, "acks is leader") {
		t.Errorf("the sink says %q of acknowledgements by the leader alone", remark)
	}
	all := sinktest.Envelopes("t", 1, 500)
	for from := 0; from < len(all); from += 100 {
		if err := send(ctx, sink, all[from:from+100]...); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := bodies(stored(t, f.brokers(), "t")), bodies(all); got != want {
		t.Errorf("stored %s", got)
	}
}
