package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/pg-tide/pg-tide/internal/testkit/kafkatest"
)

// threeWays is one outbox whose events go to NATS, to Kafka and to a service
// that speaks only HTTP, each by a pipeline of its own. What NATS stored comes
// back into an inbox; Kafka's topic is read by a client that is not ours.
type threeWays struct {
	*service
	kafka *kafkatest.Cluster
	hook  *hook
}

const (
	threeWaysTopic  = "shop.events"
	threeWaysOrders = 8
)

func newThreeWays(t *testing.T) *threeWays {
	t.Helper()
	f := &threeWays{service: retaining(t, startBroker(t).URL()), kafka: kafkatest.Start(t, kafkatest.Options{}), hook: startHook(t)}
	f.kafka.CreateTopic(t, threeWaysTopic, 3)
	f.execute(t, `select tide.relay_set_outbox('shop-to-kafka', 'shop', jsonb_build_object('sink_type', 'kafka', 'brokers', $1::text, 'topic', $2::text))`,
		f.kafka.Brokers(), threeWaysTopic)
	f.execute(t, `select tide.relay_set_outbox('shop-to-hook', 'shop', jsonb_build_object('sink_type', 'webhook', 'url', $1::text,
		'allow_networks', '127.0.0.0/8', 'signing_secret', $2::text, 'concurrency', 4, 'timeout_seconds', 300))`, f.hook.URL, signingSecret)
	return f
}

// steps publishes one event of each order for every step, a transaction a step.
func (f *threeWays) steps(t *testing.T, from, until int) {
	t.Helper()
	for n := from; n < until; n++ {
		f.execute(t, `insert into ledger select tide.outbox_publish('shop', 'shop', jsonb_build_object('order_id', o.id, 'event_type', $2::text), key => o.id)
			from (select 'H' || to_char(n, 'FM00') from generate_series(0, $1 - 1) n) o (id)`, threeWaysOrders, fmt.Sprintf("step.%02d", n))
	}
}

// overNATS waits until what NATS stored has come back, each event once.
func (f *threeWays) overNATS(t *testing.T, steps int) {
	t.Helper()
	f.awaitAllBack(t)
	all := f.inbox(t, "back")
	byOrder := map[string][]string{}
	for _, text := range all {
		order, step, _ := strings.Cut(text, " ")
		byOrder[order] = append(byOrder[order], step)
	}
	if len(all) != steps*threeWaysOrders {
		t.Errorf("%d events came over NATS, want %d", len(all), steps*threeWaysOrders)
	}
	checkSteps(t, "over NATS", byOrder, threeWaysOrders, steps)
}

// overHTTP waits until the service took all. It was sent none again: what
// happened to it, or to others, left no doubt about what it had.
func (f *threeWays) overHTTP(t *testing.T, steps int) {
	t.Helper()
	eventually(t, func() (bool, string) {
		_, events, _ := f.hook.took()
		return events >= steps*threeWaysOrders, fmt.Sprintf("the service took %d of %d events; status: %s", events, steps*threeWaysOrders, f.status(t))
	})
	if _, events, repeats := f.hook.took(); events != steps*threeWaysOrders || repeats != 0 {
		t.Errorf("the service took %d events, want %d, and %d again", events, steps*threeWaysOrders, repeats)
	}
	inSteps(t, f.hook, threeWaysOrders, steps)
}

// overKafka waits until the pipeline has delivered all, and reads the whole
// topic: by event id each event is there once, in the order of its key.
func (f *threeWays) overKafka(t *testing.T, steps int) (repeats int) {
	t.Helper()
	f.awaitStatus(t, "shop-to-kafka", `r.state = 'running' and r.lag_events = 0`)
	byOrder, seen := map[string][]string{}, map[string]bool{}
	for _, r := range f.topic(t) {
		var payload struct {
			Type string `json:"event_type"`
		}
		if err := json.Unmarshal(r.Value, &payload); err != nil {
			t.Fatal(err)
		}
		id := header(r, "ce_id")
		if seen[id] {
			repeats++ // a reader knows it by its id
			continue
		}
		seen[id] = true
		byOrder[string(r.Key)] = append(byOrder[string(r.Key)], payload.Type)
	}
	if len(seen) != steps*threeWaysOrders {
		t.Errorf("%d events came over Kafka, want %d", len(seen), steps*threeWaysOrders)
	}
	checkSteps(t, "over Kafka", byOrder, threeWaysOrders, steps)
	return repeats
}

// topic is every record that Kafka has now.
func (f *threeWays) topic(t *testing.T) []*kgo.Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	client := f.kafka.Client(t, kgo.ConsumeTopics(threeWaysTopic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, threeWaysTopic)
	if err != nil || ends.Error() != nil {
		t.Fatalf("look where the topic ends: %v, %v", err, ends.Error())
	}
	var wanted int64
	ends.Each(func(o kadm.ListedOffset) { wanted += o.Offset })
	var all []*kgo.Record
	for int64(len(all)) < wanted {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("the topic has %d records, %d of them were read: %v", wanted, len(all), err)
		}
		all = append(all, fetches.Records()...)
	}
	return all
}

func header(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

// flowing says that a pipeline has delivered all and waits for nothing.
func (f *threeWays) flowing(t *testing.T, pipelines ...string) {
	t.Helper()
	for _, p := range pipelines {
		f.awaitStatus(t, p, `r.state = 'running' and r.reason is null and r.lag_events = 0 and r.holds_retention_since is null`)
	}
}

// heldBy waits until these alone hold back the retention, and both views say so.
func (f *threeWays) heldBy(t *testing.T, pipelines string) {
	t.Helper()
	eventually(t, func() (bool, string) {
		holders := f.holders(t)
		held := one[string](t, f.service, `select coalesce(nullif(array_to_string(held_by, ' '), ''), 'nobody') from tide.outbox_retention where outbox = 'shop'`)
		return holders == pipelines && held == pipelines, fmt.Sprintf("%q hold: the status says %q, the outbox %q", pipelines, holders, held)
	})
}

// killKafkaAt kills the broker as soon as the service is posted that step, and
// closes gone.
func (f *threeWays) killKafkaAt(t *testing.T, step string) (gone <-chan struct{}) {
	reached, killed := make(chan struct{}), make(chan struct{})
	var once sync.Once
	f.hook.answers(func(p posted, _ *http.Request) int {
		if strings.Contains(p.body, step) {
			once.Do(func() { close(reached) })
		}
		return http.StatusNoContent
	})
	go func() {
		defer close(killed)
		select {
		case <-reached:
			f.kafka.Kill()
		case <-t.Context().Done():
		}
	}()
	return killed
}

// within bounds the wait for a signal.
func within(t *testing.T, what string, signal <-chan struct{}) {
	t.Helper()
	select {
	case <-signal:
	case <-time.After(patience):
		t.Fatalf("waited in vain: %s", what)
	}
}

// NATS, Kafka and a webhook take one outbox at once, each at its own pace: a
// broker that is killed, a service that answers nothing and one that answers
// 503 delay no other, are named, and hold back the retention alone; each
// catches up with nothing lost, doubled or out of order.
func TestOneOutboxFeedsNATSKafkaAndAWebhookEachAtItsOwnPace(t *testing.T) {
	t.Parallel()
	f := newThreeWays(t)
	startRelay(t, f.dsn)
	const sound, killed, dead, silent, refused = 10, 60, 70, 80, 90
	f.steps(t, 0, sound)
	f.overNATS(t, sound)
	f.overHTTP(t, sound)
	if repeats := f.overKafka(t, sound); repeats != 0 {
		t.Errorf("%d events are twice in Kafka, and nothing had happened", repeats)
	}
	f.heldBy(t, "nobody")

	t.Log("Kafka is killed while events are on their way, and stays dead")
	gone := f.killKafkaAt(t, "step.12")
	f.steps(t, sound, killed)
	within(t, "Kafka is killed", gone)
	f.steps(t, killed, dead)
	f.overNATS(t, dead)
	f.overHTTP(t, dead)
	f.awaitStatus(t, "shop-to-kafka", fmt.Sprintf(`r.state = 'waiting' and r.reason like '%%the broker at %s is not reachable%%' and r.lag_events >= %d`,
		f.kafka.Brokers(), (dead-killed)*threeWaysOrders))
	f.flowing(t, "shop-to-nats", "shop-to-hook")
	f.heldBy(t, "shop-to-kafka")
	f.kafka.Restart(t)
	t.Logf("%d events came to Kafka again, under the same ids", f.overKafka(t, dead))
	f.heldBy(t, "nobody")

	t.Log("the service takes requests and does not answer")
	out, release := make(chan struct{}, 1), make(chan struct{})
	f.hook.answers(func(_ posted, r *http.Request) int {
		select {
		case out <- struct{}{}:
		default: // it is known
		}
		select {
		case <-release:
			return http.StatusNoContent
		case <-r.Context().Done():
			return http.StatusServiceUnavailable
		}
	})
	f.steps(t, dead, silent)
	within(t, "the service is posted something", out)
	f.overNATS(t, silent)
	f.overKafka(t, silent)
	f.awaitStatus(t, "shop-to-hook", fmt.Sprintf(`r.state = 'running' and r.lag_events = %d`, (silent-dead)*threeWaysOrders))
	f.flowing(t, "shop-to-nats", "shop-to-kafka")
	f.heldBy(t, "shop-to-hook")

	t.Log("it answers, and then that it cannot now")
	close(release)
	f.overHTTP(t, silent)
	f.hook.answers(func(posted, *http.Request) int { return http.StatusServiceUnavailable })
	f.steps(t, silent, refused)
	f.overNATS(t, refused)
	f.overKafka(t, refused)
	f.awaitStatus(t, "shop-to-hook", fmt.Sprintf(`r.state = 'waiting' and r.reason like '%%answered 503%%' and r.lag_events = %d`, (refused-silent)*threeWaysOrders))
	f.flowing(t, "shop-to-nats", "shop-to-kafka")
	f.heldBy(t, "shop-to-hook")
	f.hook.answers(nil)
	f.overHTTP(t, refused)
	f.heldBy(t, "nobody")
}
