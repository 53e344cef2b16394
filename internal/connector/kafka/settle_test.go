package kafka_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/pg-tide/pg-tide/internal/testkit/kafkatest"
)

// forget leaves a transaction in a partition that has no end there, though its
// coordinator holds it for complete, and returns its last offset. Old clients
// could do that by sending behind their own commit, where brokers do not verify.
func forget(t *testing.T, brokers, topic string, bodies ...string) int64 {
	t.Helper()
	ctx := background(t)
	client := plain(t, brokers, kgo.TransactionalID(topic), kgo.MaxVersions(kversion.V3_7_0()))
	if err := client.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	var last int64
	for i, body := range bodies {
		record, err := client.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte(body)}).First()
		if err != nil {
			t.Fatal(err)
		}
		last = record.Offset
		if i > 0 {
			continue
		}
		end := kmsg.NewPtrEndTxnRequest()
		end.TransactionalID, end.Commit = topic, true
		if end.ProducerID, end.ProducerEpoch, err = client.ProducerID(ctx); err != nil {
			t.Fatal(err)
		}
		if ended, err := end.RequestWith(ctx, client); err != nil || ended.ErrorCode != 0 {
			t.Fatalf("commit: %+v, %v", ended, err)
		}
		kafkatest.Eventually(t, "the first transaction is shown", func() bool { return shown(t, brokers, topic) > record.Offset })
	}
	return last
}

// shown is where readers of committed events get to.
func shown(t *testing.T, brokers, topic string) int64 {
	t.Helper()
	offsets, err := kadm.NewClient(plain(t, brokers)).ListCommittedOffsets(background(t), topic)
	if err != nil {
		t.Fatal(err)
	}
	at, _ := offsets.Lookup(topic, 0)
	if at.Err != nil {
		t.Fatal(at.Err)
	}
	return at.Offset
}

// What a broker acknowledged, and took for complete without showing it to
// readers of committed events, is shown by the next session.
func TestTheNextSessionShowsWhatTheBrokersForgotToShow(t *testing.T) {
	t.Parallel()
	c := kafkatest.Start(t, kafkatest.Options{Settings: map[string]string{"transaction.partition.verification.enable": "false"}})
	topic := topicOf(t)
	makeTopic(t, c.Brokers(), topic, 1, nil)
	ctx := background(t)
	sink := newSink(t, values{"brokers": c.Brokers(), "topic_template": topic, "transactional": true, "transactional_id": topic})
	open(ctx, t, sink)
	if err := send(ctx, sink, transactions(topic, 1, 1)...); err != nil {
		t.Fatal(err)
	}
	mark := sink.Mark()
	last := forget(t, c.Brokers(), topic, "2-0", "2-1", "2-2", "2-3", "2-4")
	before := fmt.Sprintf(`"0":%d`, ofTransaction-1)
	if !strings.Contains(mark, before) {
		t.Fatalf("the mark is %s", mark)
	}
	mark = strings.Replace(mark, before, `"0":`+strconv.FormatInt(last, 10), 1)
	if got := shown(t, c.Brokers(), topic); got > last {
		t.Fatalf("readers get to %d, and the test wants something to be hidden at %d", got, last)
	}
	if proof := prove(ctx, t, sink, mark); !proof.Holds {
		t.Fatalf("the proof is %+v", proof)
	}
	kafkatest.Eventually(t, "readers see what was acknowledged", func() bool { return shown(t, c.Brokers(), topic) > last })
	// The session goes on, and its transactions are whole.
	if err := send(ctx, sink, transactions(topic, 3, 2)...); err != nil {
		t.Fatal(err)
	}
	problems, seen := torn(stored(t, c.Brokers(), topic))
	for _, problem := range problems {
		t.Error(problem)
	}
	for n := 1; n <= 4; n++ {
		if seen[n] != ofTransaction {
			t.Errorf("transaction %d has %d events", n, seen[n])
		}
	}
}
