package e2e

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/pg-tide/pg-tide/internal/testkit/kafkatest"
)

// sharedKafka is a broker for the tests that do nothing to it. Topics have one
// partition there, so that all of a topic is in one order.
var sharedKafka = &kafkatest.Shared{}

// newKafkaBus is the tutorial's three services over Kafka: its SQL with the
// keys of the pipelines' configuration as Kafka has them, and topics of their own.
func newKafkaBus(t *testing.T, brokers string) *bus {
	t.Helper()
	topic := "events." + strings.ToLower(rand.Text()[:8])
	replace := strings.NewReplacer(
		`"sink_type": "nats"`, `"sink_type": "kafka"`,
		`"source_type": "nats"`, `"source_type": "kafka"`,
		`"url": "nats://nats:4222"`, `"brokers": "`+brokers+`"`,
		`"subject_template": "events.orders.{op}"`, `"topic_template": "`+topic+`"`,
		`"subject": "events.orders.>"`, `"topic": "`+topic+`"`,
		`"consumer_group": "`, `"group_id": "`+topic+`.`,
		`"durable_name": "payment-service"`, `"start_offset": "earliest"`,
		`"durable_name": "shipping-service"`, `"start_offset": "earliest"`,
	)
	return newBusOf(t, brokers, replace.Replace)
}

func TestTutorialOverKafkaInEveryStartOrder(t *testing.T) {
	t.Parallel()
	for _, order := range startOrders {
		t.Run(strings.Join(order[:], " then "), func(t *testing.T) {
			t.Parallel()
			b := newKafkaBus(t, sharedKafka.Get(t).Brokers())
			for _, name := range order {
				startRelay(t, b.named(name).dsn)
			}
			b.checkTutorial(t)
		})
	}
}

func TestTutorialOverKafkaWithTheBrokerStartedLast(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Start(t, kafkatest.Options{})
	cluster.Kill()
	b := newKafkaBus(t, cluster.Brokers())
	for _, name := range startOrders[0] {
		startRelay(t, b.named(name).dsn)
	}
	b.orders.awaitStatus(t, "orders-to-nats", "r.state = 'waiting'")
	b.payments.awaitStatus(t, "orders-for-payments", "r.state = 'waiting'")
	cluster.Restart(t)
	b.checkTutorial(t)
}

func TestRelaysAndKafkaKilledInMidTrafficLoseAndDoubleNothing(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Start(t, kafkatest.Options{})
	b := newKafkaBus(t, cluster.Brokers())
	orders, payments := startRelay(t, b.orders.dsn), startRelay(t, b.payments.dsn)
	want := []string{"ORD-001 order.created"}
	for i := range 400 {
		id := fmt.Sprintf("ORD-%04d", 1000+i)
		b.order(t, id, "order.created")
		want = append(want, id+" order.created")
		switch i % 200 {
		case 50:
			orders.kill(t)
			payments.kill(t)
			orders, payments = startRelay(t, b.orders.dsn), startRelay(t, b.payments.dsn)
		case 150:
			cluster.Kill()
			cluster.Restart(t)
		}
	}
	if got := b.payments.arrived(t, "payment_triggers", len(want)); !slices.Equal(got, want) {
		t.Errorf("payments got %d messages, want %d in order: %q", len(got), len(want), got)
	}
}

func TestBenchOverKafkaMeasuresBothWaysAndLeavesNothing(t *testing.T) {
	t.Parallel()
	cluster := sharedKafka.Get(t)
	bench := newCommand(t, "bench", "forward", "reverse", "--bus", "kafka", "--brokers", cluster.Brokers(),
		"--events", "1000", "--rounds", "1", "--size", "200", "--output", "json")
	out, err := bench.Output()
	if err != nil {
		var ended *exec.ExitError
		errors.As(err, &ended)
		t.Fatalf("it ended with %v: %s", err, ended.Stderr)
	}
	for _, want := range []string{`"case": "forward"`, `"to": "loop with the same headers"`, `"case": "reverse"`, `"to": "loop"`, `"kafka":`} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%s is missing in\n%s", want, out)
		}
	}
	topics, err := kadm.NewClient(cluster.Client(t)).ListTopics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range topics.Names() {
		if strings.HasPrefix(name, "pgtide_bench_") {
			t.Errorf("it left the topic %s", name)
		}
	}
}

func TestTortureOverKafkaFindsNoBrokenPromise(t *testing.T) {
	t.Parallel()
	torture := newCommand(t, "torture", "--bus", "kafka", "--for", "10s", "--every", "2s", "--writers", "4", "--rate", "100", "--seed", "1",
		"--faults", "relay-kill,broker-kill,broker-cut,broker-half,postgres-crash,poison,worker-crash,async-commit")
	out, err := torture.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "no promise was broken") {
		t.Errorf("it ended with %v:\n%s", err, out)
	}
}
