package nats_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pg-tide/pg-tide/internal/connector/nats"
	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/relay"
	"github.com/pg-tide/pg-tide/internal/testkit/natstest"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
)

var _ relay.Remarker = (*nats.Sink)(nil)

// transactions makes envelopes of transactions of the given sizes, one behind
// the other.
func transactions(subject string, sizes ...int) []message.Envelope {
	var all []message.Envelope
	for i, size := range sizes {
		all = append(all, transaction(uint64(i+1), sinktest.Envelopes(subject, len(all)+1, size))...)
	}
	return all
}

func transaction(xid uint64, envelopes []message.Envelope) []message.Envelope {
	one := &message.Transaction{XID: xid}
	for i := range envelopes {
		envelopes[i].Transaction = one
	}
	return envelopes
}

func ids(envelopes []message.Envelope) []string {
	var all []string
	for i := range envelopes {
		all = append(all, envelopes[i].EventID)
	}
	return all
}

func wantAll(t testing.TB, js jetstream.JetStream, want []message.Envelope) {
	t.Helper()
	if got := ids(stored(t, js, "tide-events")); !slices.Equal(got, ids(want)) {
		t.Errorf("stored %v, want %v", got, ids(want))
	}
}

func atomicSink(t testing.TB, server *natstest.Server, more values) *nats.Sink {
	t.Helper()
	return newSink(t, sinkTo(server, "events.{op}", values{"atomic": true}.with(more)))
}

// sendAgain opens and sends until it succeeds, as the engine does.
func sendAgain(ctx context.Context, t testing.TB, sink *nats.Sink, envelopes []message.Envelope) {
	t.Helper()
	natstest.Eventually(t, "send everything", func() bool {
		if err := sink.Open(ctx); err != nil {
			return false
		}
		return send(ctx, sink, envelopes...) == nil
	})
	if err := sink.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
}

func TestTransactionsAreStoredInOrder(t *testing.T) {
	t.Parallel()
	server, js := start(t)
	sink := atomicSink(t, server, nil)
	open(background(t), t, sink)
	all := transactions("events.insert", 3, 1, 900, 200, 1000, 2)
	if err := send(background(t), sink, all...); err != nil {
		t.Fatal(err)
	}
	wantAll(t, js, all)
	if sink.Remark() != "" {
		t.Errorf("remark: %s", sink.Remark())
	}
}

// The connection is cut at each message of a batch, before or after it reached
// the server; a reader sees all of a transaction or nothing, and after the
// resend everything once.
func TestACutConnectionTearsNoTransaction(t *testing.T) {
	t.Parallel()
	for _, fate := range []natstest.Fate{natstest.CutBefore, natstest.CutAfter} {
		for at := 1; at <= 5; at++ {
			t.Run(fmt.Sprintf("fate %d at message %d", fate, at), func(t *testing.T) {
				t.Parallel()
				server, js := start(t)
				var number atomic.Int32
				url := natstest.Between(t, server, natstest.Script{Published: func(headers string) natstest.Fate {
					if strings.Contains(headers, "Nats-Batch-Id") && int(number.Add(1)) == at {
						return fate
					}
					return natstest.PassOn
				}})
				ctx := background(t)
				all := transactions("events.insert", 2, 3)
				sink := newSink(t, values{"url": url, "subject_template": "events.{op}", "atomic": true})
				if err := sink.Open(ctx); err != nil {
					t.Fatal(err)
				}
				if err := send(ctx, sink, all...); err == nil {
					t.Fatal("the connection was cut and nothing failed")
				}
				if n := len(stored(t, js, "tide-events")); n != 0 && n != len(all) {
					t.Errorf("%d of %d are stored", n, len(all))
				}
				sendAgain(ctx, t, sink, all)
				wantAll(t, js, all)
			})
		}
	}
}

func TestAServerKilledWithinABatchTearsNoTransaction(t *testing.T) {
	t.Parallel()
	const size = 40
	for _, at := range []int{1, 20, size} {
		t.Run(fmt.Sprintf("at message %d", at), func(t *testing.T) {
			t.Parallel()
			server := natstest.Start(t, natstest.Options{})
			var number atomic.Int32
			killed := make(chan struct{})
			url := natstest.Between(t, server, natstest.Script{Published: func(headers string) natstest.Fate {
				if strings.Contains(headers, "Nats-Batch-Id") && int(number.Add(1)) == at+1 {
					// The messages before are at the server, or on their way.
					server.Kill()
					close(killed)
				}
				return natstest.PassOn
			}})
			ctx := background(t)
			all := transactions("events.insert", 10, size-10)
			more := transaction(9, sinktest.Envelopes("events.insert", size+1, 5))
			sink := newSink(t, values{"url": url, "subject_template": "events.{op}", "atomic": true})
			if err := sink.Open(ctx); err != nil {
				t.Fatal(err)
			}
			failed := send(ctx, sink, all...)
			if failed == nil { // killed after the batch: in the next
				failed = send(ctx, sink, more...)
			}
			if failed == nil {
				t.Fatal("the server was killed and nothing failed")
			}
			<-killed
			if err := server.Run(); err != nil {
				t.Fatal(err)
			}
			js := server.JetStream(t)
			if n := len(stored(t, js, "tide-events")); n != 0 && n != len(all) {
				t.Errorf("%d of %d are stored", n, len(all))
			}
			sendAgain(ctx, t, sink, append(all, more...))
			wantAll(t, js, append(all, more...))
		})
	}
}

// The kill races the commit: whatever the server had done, it is whole.
func TestAServerKilledWhileItCommitsHasAllOrNothing(t *testing.T) {
	t.Parallel()
	for round := range 4 {
		t.Run(fmt.Sprintf("round %d", round), func(t *testing.T) {
			t.Parallel()
			server := natstest.Start(t, natstest.Options{})
			var commits atomic.Int32
			killed := make(chan struct{})
			url := natstest.Between(t, server, natstest.Script{Published: func(headers string) natstest.Fate {
				if strings.Contains(headers, "Nats-Batch-Commit") && commits.Add(1) == 1 {
					go func() {
						server.Kill()
						close(killed)
					}()
				}
				return natstest.PassOn
			}})
			ctx := background(t)
			all := transactions("events.insert", 600)
			sink := newSink(t, values{"url": url, "subject_template": "events.{op}", "atomic": true})
			if err := sink.Open(ctx); err != nil {
				t.Fatal(err)
			}
			_ = send(ctx, sink, all...) // it may have been quicker
			<-killed
			if err := server.Run(); err != nil {
				t.Fatal(err)
			}
			js := server.JetStream(t)
			if n := int(streamInfo(t, js, "tide-events").State.LastSeq); n != 0 && n != len(all) {
				t.Errorf("%d of %d are stored", n, len(all))
			}
			sendAgain(ctx, t, sink, all)
			if n := int(streamInfo(t, js, "tide-events").State.LastSeq); n != len(all) {
				t.Errorf("%d of %d are stored", n, len(all))
			}
		})
	}
}

func TestWhatIsKnownOfATransactionIsNotStoredAgain(t *testing.T) {
	t.Parallel()
	for _, replicas := range []int{1, 3} {
		t.Run(fmt.Sprintf("replicas %d", replicas), func(t *testing.T) {
			t.Parallel()
			var servers []*natstest.Server
			if replicas == 1 {
				servers = append(servers, natstest.Start(t, natstest.Options{}))
			} else {
				servers = natstest.StartCluster(t, replicas, natstest.Options{})
			}
			js := servers[0].JetStream(t)
			sink := newSink(t, values{"url": natstest.URLs(servers), "subject_template": "events.{op}", "atomic": true, "replicas": replicas})
			natstest.Eventually(t, "open the sink", func() bool { return sink.Open(background(t)) == nil })
			t.Cleanup(func() { _ = sink.Close(context.Background()) })

			all := transactions("events.insert", 2, 6, 3)
			single := all[4] // the third of the second, stored on its own before
			single.Transaction = nil
			if err := send(background(t), sink, single); err != nil {
				t.Fatal(err)
			}
			for range 2 { // and all of it comes once more
				if err := send(background(t), sink, all...); err != nil {
					t.Fatal(err)
				}
			}
			want := slices.Concat([]message.Envelope{single}, all[:4], all[5:])
			wantAll(t, js, want)
			for _, surely := range []bool{false, true} {
				asked := sinktest.Envelopes("events.insert", 1, 13) // 12 and 13 are not there
				known, err := nats.Known(background(t), sink, asked, surely)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(known, append(slices.Repeat([]bool{true}, 11), false, false)) {
					t.Errorf("known, surely %t: %v", surely, known)
				}
			}
			// Nothing that was asked about is remembered as if it were stored.
			next := transaction(9, sinktest.Envelopes("events.insert", 12, 2))
			if err := send(background(t), sink, next...); err != nil {
				t.Fatal(err)
			}
			wantAll(t, js, append(want, next...))
		})
	}
}

func TestAnIDThatIsGivenTwiceIsStoredOnce(t *testing.T) {
	t.Parallel()
	server, js := start(t)
	sink := atomicSink(t, server, nil)
	open(background(t), t, sink)
	all := transactions("events.insert", 3, 2)
	twice := slices.Concat(all, transaction(9, slices.Clone(all[1:2])), all[4:5])
	if err := send(background(t), sink, twice...); err != nil {
		t.Fatal(err)
	}
	wantAll(t, js, all)
}

func TestATransactionThatIsTooLargeIsRefusedBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	server, js := start(t)
	sink := atomicSink(t, server, nil)
	open(background(t), t, sink)
	all := transactions("events.insert", 2, 1001, 3)
	_, err := sink.Send(background(t), all)
	var partial *delivery.Partial
	if !errors.As(err, &partial) || len(partial.Failed) != 1001 {
		t.Fatalf("%v", err)
	}
	wantError(t, err, delivery.VerdictReject, "transaction 2", "1001 events", "batch.max_msgs", "atomic_oversize")
	wantAll(t, js, nil)
	parted := sinktest.Envelopes("events.insert", 1, 1)
	parted[0].Transaction = &message.Transaction{XID: 7, Parted: true}
	_, err = sink.Send(background(t), parted)
	wantError(t, err, delivery.VerdictReject, "transaction 7", "atomic_oversize")
}

func TestATransactionThatIsTooLargeIsSplitWhereThatIsConfigured(t *testing.T) {
	t.Parallel()
	server, js := start(t)
	sink := atomicSink(t, server, values{"atomic_oversize": "split"})
	open(background(t), t, sink)
	all := transactions("events.insert", 2, 2500, 3)
	for range 2 {
		if err := send(background(t), sink, all...); err != nil {
			t.Fatal(err)
		}
	}
	wantAll(t, js, all)
}

func smallBatches() natstest.Options {
	return natstest.Options{NoJetStream: true, Extra: `jetstream { max_file: 1G, max_mem: 64M, limits { batch { max_msgs: 7 } } }`}
}

func TestTheBrokersOwnLimitIsFoundOut(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t, withStore(t, smallBatches()))
	js := server.JetStream(t)
	ctx := background(t)
	sink := atomicSink(t, server, nil)
	fitting := transactions("events.insert", 3, 7, 2, 6)
	sendAgain(ctx, t, sink, fitting)
	wantAll(t, js, fitting)

	large := transaction(8, sinktest.Envelopes("events.insert", 100, 8))
	open(ctx, t, sink)
	err := send(ctx, sink, large...)
	wantError(t, err, delivery.VerdictRetry, "8 events", "batch.max_msgs")
	open(ctx, t, sink)
	wantError(t, send(ctx, sink, large...), delivery.VerdictReject, "8 events", "atomic_oversize")

	split := atomicSink(t, server, values{"atomic_oversize": "split"})
	open(ctx, t, split)
	if err := send(ctx, split, large...); err != nil {
		t.Fatal(err)
	}
	wantAll(t, js, append(fitting, large...))
}

// withStore gives a configuration of JetStream's own a place for its files.
func withStore(t testing.TB, o natstest.Options) natstest.Options {
	o.Extra = strings.Replace(o.Extra, "jetstream {", fmt.Sprintf("jetstream { store_dir: %q,", t.TempDir()), 1)
	return o
}

func TestAnOlderServerGetsEventsOneByOneAndIsNamed(t *testing.T) {
	t.Parallel()
	// A proxy says that the server is older: an older one is not at hand.
	server, js := start(t)
	url := natstest.Between(t, server, natstest.Script{Version: "2.11.9", Published: func(headers string) natstest.Fate {
		if strings.Contains(headers, "Nats-Batch") {
			t.Error("a batch was sent to a server that knows none")
		}
		return natstest.PassOn
	}})
	sink := newSink(t, values{"url": url, "subject_template": "events.{op}", "atomic": true})
	open(background(t), t, sink)
	all := transactions("events.insert", 3, 1500)
	if err := send(background(t), sink, all...); err != nil {
		t.Fatal(err)
	}
	wantAll(t, js, all)
	for _, part := range []string{"2.11.9", "2.12", "one by one"} {
		if !strings.Contains(sink.Remark(), part) {
			t.Errorf("the remark lacks %q: %q", part, sink.Remark())
		}
	}
}

func TestAStreamOfOthersMustTakeAtomicBatches(t *testing.T) {
	t.Parallel()
	server, js := start(t)
	addStream(t, js, jetstream.StreamConfig{Name: "THEIRS", Subjects: []string{"events.>"}})
	sink := atomicSink(t, server, nil)
	wantError(t, sink.Open(background(t)), delivery.VerdictMisconfigured, "stream THEIRS", "allow_atomic", "leave out atomic")
}

func TestAStreamOfOursIsToldToTakeAtomicBatches(t *testing.T) {
	t.Parallel()
	server, js := start(t)
	plain := newSink(t, sinkTo(server, "events.{op}", nil))
	open(background(t), t, plain)
	if streamInfo(t, js, "tide-events").Config.AllowAtomicPublish {
		t.Fatal("the stream takes atomic batches, and nobody asked for it")
	}
	open(background(t), t, atomicSink(t, server, nil))
	if !streamInfo(t, js, "tide-events").Config.AllowAtomicPublish {
		t.Error("the stream takes no atomic batches")
	}
}

func TestATransactionOfTwoStreamsIsRefused(t *testing.T) {
	t.Parallel()
	server, js := start(t)
	for _, name := range []string{"A", "B"} {
		addStream(t, js, jetstream.StreamConfig{Name: name, Subjects: []string{strings.ToLower(name) + ".>"}, AllowAtomicPublish: true})
	}
	sink, err := nats.NewSink(values{"url": server.URL(), "atomic": true}, nats.Deps{Pipeline: "p", Templates: []string{"a.x", "b.x"}})
	if err != nil {
		t.Fatal(err)
	}
	open(background(t), t, sink)
	one := transaction(1, append(sinktest.Envelopes("a.x", 1, 2), sinktest.Envelopes("b.x", 3, 1)...))
	_, err = sink.Send(background(t), one)
	wantError(t, err, delivery.VerdictReject, "streams A and B", "atomic")
	// Each by itself is fine, in whatever stream.
	apart := slices.Concat(transaction(2, sinktest.Envelopes("a.x", 1, 2)), transaction(3, sinktest.Envelopes("b.x", 3, 2)), transaction(4, sinktest.Envelopes("a.x", 5, 1)))
	if err := send(background(t), sink, apart...); err != nil {
		t.Fatal(err)
	}
	if a, b := len(stored(t, js, "A")), len(stored(t, js, "B")); a != 3 || b != 2 {
		t.Errorf("stored %d and %d", a, b)
	}
}
