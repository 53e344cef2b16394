package webhook_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/relay"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
)

// failures are the verdicts of what a receipt or a Send said.
func failures(t *testing.T, err error) map[int]delivery.Verdict {
	t.Helper()
	var partial *delivery.Partial
	if !errors.As(err, &partial) {
		t.Fatalf("got %v, not a partial failure", err)
	}
	verdicts := map[int]delivery.Verdict{}
	for i, err := range partial.Failed {
		verdicts[i], _ = delivery.VerdictOf(err)
	}
	return verdicts
}

func TestKeysAreInFlightAtOnceAndEachInOrder(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	out, most := map[string]int{}, 0
	together := make(chan struct{})
	s := startService(t, func(_ http.ResponseWriter, _ *http.Request, e message.Envelope) int {
		mu.Lock()
		out[e.Key]++
		if out[e.Key] > 1 {
			t.Errorf("two events of key %s at once", e.Key)
		}
		if most = max(most, len(out)); most == 3 {
			select {
			case <-together:
			default:
				close(together)
			}
		}
		mu.Unlock()
		<-together // until all three keys are out at once
		mu.Lock()
		defer mu.Unlock()
		delete(out, e.Key)
		return http.StatusOK
	})
	batch := events(9, "a", "b", "c")
	if err := send(t, opened(t, local(s.url(), values{"concurrency": 3})), batch); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"a", "b", "c"} {
		if got, want := s.ofKey(t, key), idsOf(batch, key); !slices.Equal(got, want) {
			t.Errorf("key %s: %q, want %q", key, got, want)
		}
	}
}

// Without a concurrency above one the order is that of everything.
func TestOneRequestAtATimeKeepsTheOrderOfEverything(t *testing.T) {
	t.Parallel()
	s := startService(t, nil)
	batch := events(9, "a", "b", "")
	if err := send(t, opened(t, local(s.url(), nil)), batch); err != nil {
		t.Fatal(err)
	}
	for i, e := range s.stored(t) {
		if e.EventID != batch[i].EventID {
			t.Fatalf("event %d is %s, want %s", i, e.EventID, batch[i].EventID)
		}
	}
}

// What is behind a refused event of its key is not sent until somebody has been
// told; events of other keys are.
func TestARefusedEventIsNotOvertakenByItsKey(t *testing.T) {
	t.Parallel()
	for _, concurrency := range []int{1, 2} {
		var mended atomic.Bool
		s := startService(t, func(_ http.ResponseWriter, _ *http.Request, e message.Envelope) int {
			if e.EventID == "a-2" && !mended.Load() {
				return http.StatusUnprocessableEntity
			}
			return http.StatusOK
		})
		sink := opened(t, local(s.url(), values{"concurrency": concurrency}))
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		batch, later := events(4, "a", "b"), events(5, "a")[4:] // a-1 b-1 a-2 b-2 a-3 b-3 a-4 b-4, and a-5
		receipt, err := sink.Send(ctx, batch)
		if err != nil {
			t.Fatal(err)
		}
		// sent by somebody who does not know yet
		<-receipt.(relay.Patient).Ready()
		second, err := sink.Send(ctx, later)
		if err != nil {
			t.Fatal(err)
		}
		got := failures(t, receipt.Wait(ctx))
		want := map[int]delivery.Verdict{2: delivery.VerdictReject, 4: delivery.VerdictHeld, 6: delivery.VerdictHeld}
		if len(got) != len(want) || got[2] != want[2] || got[4] != want[4] || got[6] != want[6] {
			t.Fatalf("concurrency %d: verdicts %v, want %v", concurrency, got, want)
		}
		if got := failures(t, second.Wait(ctx)); got[0] != delivery.VerdictHeld {
			t.Errorf("a later event of the key has the verdict %v", got[0])
		}
		mended.Store(true)
		if err := send(t, sink, append(batch[2:3:3], batch[4], batch[6], later[0])); err != nil {
			t.Fatal(err)
		}
		if got, want := s.ofKey(t, "a"), idsOf(events(5, "a"), "a"); !slices.Equal(got, want) {
			t.Errorf("key a: %q, want %q", got, want)
		}
		if got, want := s.ofKey(t, "b"), idsOf(batch, "b"); !slices.Equal(got, want) {
			t.Errorf("key b: %q, want %q", got, want)
		}
	}
}

// Who was told of a refusal decides what comes next: the key is free.
func TestAfterARefusalWasToldItsKeyIsFree(t *testing.T) {
	t.Parallel()
	s := startService(t, func(_ http.ResponseWriter, _ *http.Request, e message.Envelope) int {
		if e.EventID == "a-1" {
			return http.StatusBadRequest
		}
		return http.StatusOK
	})
	sink := opened(t, local(s.url(), values{"concurrency": 2}))
	batch := events(3, "a")
	failures(t, send(t, sink, batch[:1]))
	failures(t, send(t, sink, batch[:1]))
	if err := send(t, sink, batch[1:]); err != nil {
		t.Errorf("what follows it: %v", err)
	}
}

// A service that is away ends the session: nothing queued behind is sent, and
// the engine is told how long to wait.
func TestABusyServiceEndsTheSession(t *testing.T) {
	t.Parallel()
	s := startService(t, func(w http.ResponseWriter, _ *http.Request, e message.Envelope) int {
		if e.EventID == "a-2" {
			w.Header().Set("Retry-After", "7")
			return http.StatusTooManyRequests
		}
		return http.StatusOK
	})
	sink := opened(t, local(s.url(), nil))
	err := send(t, sink, events(4, "a"))
	var partial *delivery.Partial
	if !errors.As(err, &partial) || len(partial.Failed) != 3 {
		t.Fatalf("got %v", err)
	}
	if verdict, after := delivery.VerdictOf(partial.Failed[1]); verdict != delivery.VerdictRetry || after != 7*time.Second {
		t.Errorf("verdict %v after %s", verdict, after)
	}
	if n := s.asked(); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
	if err := send(t, sink, events(1, "b")); err == nil {
		t.Error("the session went on")
	}
	if err := sink.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := send(t, sink, events(1, "b")); err != nil {
		t.Errorf("after it was opened again: %v", err)
	}
}

// An event that breaks the service while it takes others is refused; one that
// nothing else is taken besides of may not be at fault.
func TestAnEventThatBreaksAServiceIsRefused(t *testing.T) {
	t.Parallel()
	var others atomic.Int32
	s := startService(t, func(_ http.ResponseWriter, _ *http.Request, e message.Envelope) int {
		if e.Key == "bad" {
			return http.StatusInternalServerError
		}
		others.Add(1)
		return http.StatusOK
	})
	sink := opened(t, local(s.url(), values{"concurrency": 2}))
	got := failures(t, send(t, sink, append(events(1, "bad"), events(3, "good")...)))
	if len(got) != 1 || got[0] != delivery.VerdictReject {
		t.Errorf("verdicts %v", got)
	}
	if err := sink.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	got = failures(t, send(t, sink, events(1, "bad")))
	if len(got) != 1 || got[0] != delivery.VerdictRetry {
		t.Errorf("alone: verdicts %v", got)
	}
}

func TestNothingIsPostedWithoutOwnership(t *testing.T) {
	t.Parallel()
	s := startService(t, nil)
	sink := newSink(t, local(s.url(), nil))
	lost := errors.New("not ours")
	var owned atomic.Bool
	owned.Store(true)
	sink.Guard(func() error {
		if owned.Load() {
			return nil
		}
		return lost
	})
	if err := sink.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := send(t, sink, events(1, "a")); err != nil {
		t.Fatal(err)
	}
	owned.Store(false)
	err := send(t, sink, events(1, "b"))
	var partial *delivery.Partial
	if !errors.As(err, &partial) || !errors.Is(partial.Failed[0], lost) || s.asked() != 1 {
		t.Errorf("got %v after %d requests", err, s.asked())
	}
}

func TestCloseCutsOffWhatIsOut(t *testing.T) {
	t.Parallel()
	entered := make(chan struct{})
	s := startService(t, func(_ http.ResponseWriter, r *http.Request, _ message.Envelope) int {
		close(entered)
		<-r.Context().Done()
		return http.StatusOK
	})
	sink := opened(t, local(s.url(), values{"timeout_seconds": 60}))
	receipt, err := sink.Send(t.Context(), events(2, "a"))
	if err != nil {
		t.Fatal(err)
	}
	<-entered
	if err := sink.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if got := failures(t, receipt.Wait(ctx)); len(got) != 2 {
		t.Errorf("verdicts %v", got)
	}
}

func TestThePathOfAnEventStaysBehindTheURL(t *testing.T) {
	t.Parallel()
	s := startService(t, nil)
	sink := opened(t, local(s.url()+"/hooks?tenant=7", nil))
	for path, want := range map[string]string{"/": "/hooks?tenant=7", "orders/created": "/hooks/orders/created?tenant=7", "/a%2Fb": "/hooks/a%2Fb?tenant=7"} {
		one := events(1, "a")
		one[0].Destination = path
		if err := send(t, sink, one); err != nil {
			t.Fatal(err)
		}
		s.mu.Lock()
		got := s.got[len(s.got)-1].URL.RequestURI()
		s.mu.Unlock()
		if got != want {
			t.Errorf("%s went to %s, want %s", path, got, want)
		}
	}
	bare := opened(t, local(s.url(), nil))
	for _, path := range []string{"../admin", "a/../../admin", "//elsewhere.example/x", "a?b=c"} {
		one := events(1, "a")
		one[0].Destination = path
		sink := sink
		if strings.HasPrefix(path, "//") {
			sink = bare
		}
		if got := failures(t, send(t, sink, one)); got[0] != delivery.VerdictReject {
			t.Errorf("%s: verdict %v", path, got[0])
		}
	}
}

func TestHeadersTravel(t *testing.T) {
	t.Parallel()
	s := startService(t, nil)
	one := events(1, "a")
	one[0].Headers = sinktest.OddHeaders()
	if err := send(t, opened(t, local(s.url(), nil)), one); err != nil {
		t.Fatal(err)
	}
	stored := s.stored(t)[0]
	for _, header := range sinktest.OddHeaders() {
		want := header.Value
		if want == "\x01" {
			want = "%01" // which no header of HTTP may hold
		}
		if got := stored.Header(http.CanonicalHeaderKey(header.Name)); got != want {
			t.Errorf("header %s: %q, want %q", header.Name, got, want)
		}
	}
	if strings.Contains(stored.Header("User-Agent"), "Go-http-client") {
		t.Error("the agent does not say who posts")
	}
}
