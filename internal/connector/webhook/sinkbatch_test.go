package webhook_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/pg-tide/pg-tide/internal/connector/webhook"
	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
)

// newBatchSink makes a sink that posts batches.
func newBatchSink(t testing.TB, keys values) *webhook.Sink {
	t.Helper()
	return makeSink(t, keys, true)
}

func openedBatches(t testing.TB, keys values) *webhook.Sink {
	t.Helper()
	sink := newBatchSink(t, keys)
	if err := sink.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	return sink
}

// listed are events whose bodies say which they are; the ids of a batch are not
// in its headers.
func listed(all []message.Envelope) []message.Envelope {
	for i := range all {
		all[i].Body = fmt.Appendf(nil, `{"id":%q,"subject":%q}`, all[i].EventID, all[i].Key)
	}
	return all
}

// listedIn returns what a request holds.
func listedIn(t testing.TB, e message.Envelope) (ids, keys []string) {
	t.Helper()
	var all []struct{ ID, Subject string }
	if err := json.Unmarshal(e.Body, &all); err != nil || e.Header("Content-Type") != "application/cloudevents-batch+json" {
		t.Errorf("a request is no batch: %s %q, %v", e.Header("Content-Type"), e.Body, err)
	}
	for _, one := range all {
		ids, keys = append(ids, one.ID), append(keys, one.Subject)
	}
	return ids, keys
}

// requestsOf are the events of each request that was taken.
func requestsOf(t testing.TB, s *service) (requests [][]string) {
	t.Helper()
	for _, e := range s.stored(t) {
		ids, _ := listedIn(t, e)
		requests = append(requests, ids)
	}
	return requests
}

func sameRequests(t testing.TB, s *service, want ...[]string) {
	t.Helper()
	if got := requestsOf(t, s); !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("the service took the requests %q, want %q", got, want)
	}
}

func TestNeighboursShareASignedRequest(t *testing.T) {
	t.Parallel()
	verifier, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	s := startService(t, func(_ http.ResponseWriter, r *http.Request, e message.Envelope) int {
		if err := verifier.Verify(e.Body, r.Header); err != nil {
			t.Errorf("the signature is not that of the body: %v", err)
		}
		if r.Header.Get("Idempotency-Key") != e.EventID || r.Header.Get("Ce-Subject") != "" {
			t.Errorf("the headers of a batch are %v", r.Header)
		}
		return http.StatusOK
	})
	keys := local(s.url(), values{"signing_secret": secret, "batch_max_events": 3})
	if err := send(t, openedBatches(t, keys), listed(events(2, "a", "b"))); err != nil {
		t.Fatal(err)
	}
	sameRequests(t, s, []string{"a-1", "b-1", "a-2"}, []string{"b-2"})
	taken := s.stored(t)
	// sha256 of "a-1\nb-1\na-2\n", as the documentation says
	if id := taken[0].EventID; id != "batch_bb77b28279fb6456d3024f753d873046" {
		t.Errorf("the id of a batch is %s", id)
	}
	if id := taken[1].EventID; id != "b-2" {
		t.Errorf("the id of a batch of one is %s", id)
	}
}

func TestABatchStaysWithinItsBounds(t *testing.T) {
	t.Parallel()
	s := startService(t, nil)
	batch := listed(events(4, "a"))
	most := len("[,]") + 2*len(batch[0].Body)
	sink := openedBatches(t, local(s.url(), values{"max_body_bytes": most}))
	if err := send(t, sink, batch); err != nil {
		t.Fatal(err)
	}
	sameRequests(t, s, []string{"a-1", "a-2"}, []string{"a-3", "a-4"})
	for _, e := range s.stored(t) {
		if len(e.Body) > most {
			t.Errorf("a body has %d bytes, more than %d", len(e.Body), most)
		}
	}
	// alone it has to fit with the brackets around it
	batch[2].Body = []byte(`"` + strings.Repeat("x", most-3) + `"`)
	asked := s.asked()
	if got := failures(t, send(t, sink, batch)); len(got) != 1 || got[2] != delivery.VerdictReject || s.asked() != asked {
		t.Errorf("verdicts %v after %d requests", got, s.asked()-asked)
	}
}

// A body of 1 MiB is what many servers take at most.
func TestABatchHasAMebibyteUnlessItsBoundIsSaid(t *testing.T) {
	t.Parallel()
	s := startService(t, nil)
	batch := events(4, "a")
	for i := range batch {
		batch[i].Body = []byte(`{"id":"` + batch[i].EventID + `","data":"` + strings.Repeat("x", 400<<10) + `"}`)
	}
	batch[2].Body = []byte(`{"id":"a-3","data":"` + strings.Repeat("x", 2<<20) + `"}`) // larger than any batch, and sent
	if err := send(t, openedBatches(t, local(s.url(), nil)), batch); err != nil {
		t.Fatal(err)
	}
	sameRequests(t, s, []string{"a-1", "a-2"}, []string{"a-3"}, []string{"a-4"})
}

// What goes elsewhere parts neighbours: nothing is sent before what is in front of it.
func TestARequestHoldsNeighboursOnly(t *testing.T) {
	t.Parallel()
	s := startService(t, nil)
	batch := listed(events(5, "a"))
	batch[2].Destination = "elsewhere"
	if err := send(t, openedBatches(t, local(s.url(), nil)), batch); err != nil {
		t.Fatal(err)
	}
	sameRequests(t, s, []string{"a-1", "a-2"}, []string{"a-3"}, []string{"a-4", "a-5"})
}

func TestARepeatedBatchIsTheSameRequest(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	var mu sync.Mutex
	seen := map[string]int{}
	s := startService(t, func(_ http.ResponseWriter, r *http.Request, e message.Envelope) int {
		mu.Lock()
		seen[r.Header.Get("Idempotency-Key")+" "+e.EventID+" "+string(e.Body)]++
		mu.Unlock()
		return []int{500, 409, 200}[asked.Add(1)-1]
	})
	if err := send(t, openedBatches(t, local(s.url(), nil)), listed(events(3, "a"))); err != nil {
		t.Fatal(err)
	}
	if len(seen) != 1 || asked.Load() != 3 {
		t.Errorf("%d requests: %v", asked.Load(), seen)
	}
	sameRequests(t, s, []string{"a-1", "a-2", "a-3"})
}

// The engine resends the same events, perhaps after a restart: the same batch has the same id.
func TestABatchHasTheSameIDInAnotherSession(t *testing.T) {
	t.Parallel()
	s := startService(t, nil)
	for range 2 {
		if err := send(t, openedBatches(t, local(s.url(), nil)), listed(events(3, "a"))); err != nil {
			t.Fatal(err)
		}
	}
	if err := send(t, openedBatches(t, local(s.url(), nil)), listed(events(2, "a"))); err != nil {
		t.Fatal(err)
	}
	taken := s.stored(t)
	if taken[0].EventID != taken[1].EventID || taken[1].EventID == taken[2].EventID {
		t.Errorf("ids %s, %s, and of other events %s", taken[0].EventID, taken[1].EventID, taken[2].EventID)
	}
}

func TestABusyServiceEndsTheSessionOfABatchWhole(t *testing.T) {
	t.Parallel()
	s := startService(t, func(w http.ResponseWriter, _ *http.Request, _ message.Envelope) int {
		w.Header().Set("Retry-After", "7")
		return http.StatusTooManyRequests
	})
	got := failures(t, send(t, openedBatches(t, local(s.url(), nil)), listed(events(4, "a"))))
	if len(got) != 4 || got[0] != delivery.VerdictRetry || got[3] != delivery.VerdictRetry || s.asked() != 1 {
		t.Errorf("verdicts %v after %d requests", got, s.asked())
	}
}

// A refused batch makes no dead letters of innocents: the refused events are
// found one by one, and what is behind one of its key waits.
func TestARefusedBatchIsSentOneByOne(t *testing.T) {
	t.Parallel()
	for _, concurrency := range []int{1, 2} {
		var mended atomic.Bool
		s := startService(t, func(_ http.ResponseWriter, _ *http.Request, e message.Envelope) int {
			if strings.Contains(string(e.Body), `"a-2"`) && !mended.Load() {
				return http.StatusUnprocessableEntity
			}
			return http.StatusOK
		})
		sink := openedBatches(t, local(s.url(), values{"concurrency": concurrency}))
		batch := listed(events(4, "a", "b")) // a-1 b-1 a-2 b-2 a-3 b-3 a-4 b-4
		got := failures(t, send(t, sink, batch))
		if len(got) != 3 || got[2] != delivery.VerdictReject || got[4] != delivery.VerdictHeld || got[6] != delivery.VerdictHeld {
			t.Errorf("verdicts %v", got)
		}
		sameRequests(t, s, []string{"a-1"}, []string{"b-1"}, []string{"b-2"}, []string{"b-3"}, []string{"b-4"})
		mended.Store(true)
		if err := send(t, sink, []message.Envelope{batch[2], batch[4], batch[6]}); err != nil {
			t.Fatal(err)
		}
		sameRequests(t, s, []string{"a-1"}, []string{"b-1"}, []string{"b-2"}, []string{"b-3"}, []string{"b-4"}, []string{"a-2", "a-3", "a-4"})
	}
}

// A service that is gone while a refused batch is sent one by one gets nothing
// behind the event that it did not take.
func TestNothingIsSentBehindAGapOneByOne(t *testing.T) {
	t.Parallel()
	s := startService(t, func(_ http.ResponseWriter, _ *http.Request, e message.Envelope) int {
		switch ids, _ := listedIn(t, e); {
		case len(ids) > 1:
			return http.StatusRequestEntityTooLarge
		case ids[0] == "a-2":
			return http.StatusServiceUnavailable
		}
		return http.StatusOK
	})
	got := failures(t, send(t, openedBatches(t, local(s.url(), nil)), listed(events(3, "a", "b"))))
	if len(got) != 4 || got[2] != delivery.VerdictRetry || got[3] != delivery.VerdictRetry || got[5] != delivery.VerdictRetry {
		t.Errorf("verdicts %v", got)
	}
	sameRequests(t, s, []string{"a-1"}, []string{"b-1"})
}

// What breaks the service only as a batch would break it for ever.
func TestABatchThatBreaksAServiceIsSentOneByOne(t *testing.T) {
	t.Parallel()
	s := startService(t, func(_ http.ResponseWriter, _ *http.Request, e message.Envelope) int {
		if ids, _ := listedIn(t, e); len(ids) > 1 {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	})
	if err := send(t, openedBatches(t, local(s.url(), nil)), listed(events(3, "a"))); err != nil {
		t.Fatal(err)
	}
	sameRequests(t, s, []string{"a-1"}, []string{"a-2"}, []string{"a-3"})
	if n := s.asked(); n != 4+3 {
		t.Errorf("%d requests", n)
	}
}

// No event is to blame for a service that does not know the content type.
func TestAServiceWithoutBatchesIsAMistakeOfTheConfiguration(t *testing.T) {
	t.Parallel()
	s := startService(t, func(http.ResponseWriter, *http.Request, message.Envelope) int { return http.StatusUnsupportedMediaType })
	err := send(t, openedBatches(t, local(s.url(), nil)), listed(events(2, "a")))
	if got := failures(t, err); got[0] != delivery.VerdictMisconfigured || !strings.Contains(err.Error(), "set wire_format to cloudevents") {
		t.Errorf("verdicts %v: %v", got, err)
	}
}

// Whatever is answered, nothing of a key is out twice, and every key is in
// order; several requests are out at once.
func TestKeysKeepTheirOrderInBatchesThroughRetries(t *testing.T) {
	t.Parallel()
	const seed = 20261130
	random := rand.New(rand.NewPCG(seed, seed))
	var mu sync.Mutex
	out, failed, requests, most, several := map[string]bool{}, map[string]int{}, 0, 0, 0
	release := make(chan struct{})
	s := startService(t, func(_ http.ResponseWriter, _ *http.Request, e message.Envelope) int {
		ids, keys := listedIn(t, e)
		mu.Lock()
		distinct := slices.Compact(slices.Sorted(slices.Values(keys)))
		for _, key := range distinct {
			if key != "" && out[key] {
				t.Errorf("key %s is in two requests at once", key)
			}
			out[key] = true
		}
		if requests++; requests > most {
			most = requests
		}
		if len(ids) > 1 {
			several++
		}
		if most == 2 {
			select {
			case <-release:
			default:
				close(release)
			}
		}
		fails := failed[e.EventID] < 2 && random.IntN(2) == 0
		if fails {
			failed[e.EventID]++
		}
		mu.Unlock()
		<-release // until two requests are out at once
		mu.Lock()
		defer mu.Unlock()
		requests--
		for _, key := range distinct {
			delete(out, key)
		}
		if fails {
			return http.StatusConflict
		}
		return http.StatusOK
	})
	sink := openedBatches(t, local(s.url(), values{"concurrency": 4, "batch_max_events": 5}))
	batch := listed(events(9, "a", "b", "c", "d", "e", "f", "g", ""))
	if err := send(t, sink, batch); err != nil {
		t.Fatal(err)
	}
	taken := map[string][]string{}
	for _, e := range s.stored(t) {
		ids, keys := listedIn(t, e)
		for i, id := range ids {
			taken[keys[i]] = append(taken[keys[i]], id)
		}
	}
	for _, key := range []string{"a", "b", "c", "d", "e", "f", "g"} {
		if got, want := taken[key], idsOf(batch, key); !slices.Equal(got, want) {
			t.Errorf("key %s: %q, want %q", key, got, want)
		}
	}
	if got := len(taken[""]); got != 9 || several == 0 {
		t.Errorf("%d events without a key, %d requests of several", got, several)
	}
}

func TestABoundOnBatchesNeedsBatches(t *testing.T) {
	t.Parallel()
	v, err := decoded(t, webhook.SinkFields(), values{"url": "https://x.example", "batch_max_events": 10})
	if err != nil {
		t.Fatal(err)
	}
	_, err = webhook.NewSink(v, webhook.SinkDeps{})
	if verdict, _ := delivery.VerdictOf(err); verdict != delivery.VerdictMisconfigured || !strings.Contains(err.Error(), "set wire_format to cloudevents_batch") {
		t.Errorf("got %v", err)
	}
}

// sequence makes events of those ids, "<key>-<number>", in that order.
func sequence(ids ...string) []message.Envelope {
	var all []message.Envelope
	for _, id := range ids {
		key, _, _ := strings.Cut(id, "-")
		one := events(1, key)[0]
		one.EventID = id
		all = append(all, one)
	}
	return listed(all)
}

// With several requests at once, too, a request holds what stands next in the
// outbox, whatever its key, and not the first of many keys.
func TestARequestOfSeveralKeysIsInTheOrderOfTheOutbox(t *testing.T) {
	t.Parallel()
	second := make(chan struct{})
	s := startService(t, func(_ http.ResponseWriter, _ *http.Request, e message.Envelope) int {
		switch ids, _ := listedIn(t, e); {
		case slices.Contains(ids, "b-1"):
			<-second // is out until the next of key a came
		case slices.Contains(ids, "a-3"):
			close(second)
		}
		return http.StatusOK
	})
	sink := openedBatches(t, local(s.url(), values{"concurrency": 2, "batch_max_events": 2}))
	if err := send(t, sink, sequence("a-1", "a-2", "b-1", "c-1", "a-3", "d-1", "e-1")); err != nil {
		t.Fatal(err)
	}
	got := requestsOf(t, s)
	slices.SortFunc(got, slices.Compare)
	if want := [][]string{{"a-1", "a-2"}, {"a-3", "d-1"}, {"b-1", "c-1"}, {"e-1"}}; !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("the requests are %q, want %q", got, want)
	}
}
