package kafka_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/pg-tide/pg-tide/internal/connector/kafka"
	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
)

const (
	// ofTransaction is how many events each transaction of these tests has.
	ofTransaction = 5
	childBrokers  = "PG_TIDE_TEST_KAFKA"
)

// transactions are envelopes of whole transactions; the body names both.
func transactions(topic string, first, n int) []message.Envelope {
	var all []message.Envelope
	for number := first; number < first+n; number++ {
		t := &message.Transaction{XID: uint64(number)}
		for i := range ofTransaction {
			id := fmt.Sprintf("%d-%d", number, i)
			all = append(all, message.Envelope{Destination: topic, EventID: id, Key: strconv.Itoa(i), Body: []byte(id), Transaction: t})
		}
	}
	return all
}

// torn names transactions of which some events were stored more often than others.
func torn(envelopes []message.Envelope) (problems []string, seen map[int]int) {
	counts := map[string]int{}
	seen = map[int]int{}
	for i := range envelopes {
		counts[string(envelopes[i].Body)]++
		number, _, _ := strings.Cut(string(envelopes[i].Body), "-")
		n, err := strconv.Atoi(number)
		if err != nil {
			problems = append(problems, "a body "+string(envelopes[i].Body))
			continue
		}
		seen[n]++
	}
	for n, count := range seen {
		for i := range ofTransaction {
			if got := counts[fmt.Sprintf("%d-%d", n, i)]; got*ofTransaction != count {
				problems = append(problems, fmt.Sprintf("event %d of transaction %d is there %d times, of %d events", i, n, got, count))
			}
		}
	}
	return problems, seen
}

// The child of the next test: it sends transactions until it is killed, and
// says which are acknowledged.
func TestChildSendsTransactions(t *testing.T) {
	brokers, topic, found := strings.Cut(os.Getenv(childBrokers), " ")
	if !found {
		return // it is no child
	}
	topic, start, _ := strings.Cut(topic, " ")
	next, err := strconv.Atoi(start)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	sink, err := makeSink(values{"brokers": brokers, "topic_template": topic, "transactional": true, "transactional_id": topic})
	if err != nil {
		t.Fatal(err)
	}
	if err := sink.Open(ctx); err != nil {
		t.Fatal(err)
	}
	fmt.Println("opened")
	var waiting []delivery.Receipt
	for sent := next; ; sent++ {
		receipt, err := sink.Send(ctx, transactions(topic, sent, 1))
		if err != nil {
			t.Fatal(err)
		}
		if waiting = append(waiting, receipt); len(waiting) < 4 {
			continue
		}
		for _, r := range waiting {
			if err := r.Wait(ctx); err != nil {
				t.Fatal(err)
			}
			fmt.Println("acknowledged", next)
			next++
		}
		waiting = nil
	}
}

func TestReadersSeeATransactionWholeOrNotAtAllWhenTheRelayIsKilled(t *testing.T) {
	t.Parallel()
	c, topic := brokers.Get(t), topicOf(t)
	makeTopic(t, c.Brokers(), topic, 3, nil)
	const kills = 4
	next := 1
	for kill := range kills {
		next = runAndKill(t, c.Brokers(), topic, next, 10+7*kill)
	}
	// The last owner ends what the killed one left open, and sends again from
	// what was acknowledged.
	ctx := background(t)
	sink := newSink(t, values{"brokers": c.Brokers(), "topic_template": topic, "transactional": true, "transactional_id": topic})
	open(ctx, t, sink)
	if err := send(ctx, sink, transactions(topic, next, 3)...); err != nil {
		t.Fatal(err)
	}
	problems, seen := torn(stored(t, c.Brokers(), topic))
	for _, problem := range problems {
		t.Error(problem)
	}
	for n := 1; n < next+3; n++ {
		if seen[n] == 0 {
			t.Errorf("transaction %d was lost", n)
		}
	}
	if all := read(t, c.Brokers(), []string{topic}, kgo.FetchIsolationLevel(kgo.ReadUncommitted())); len(all) == 0 {
		t.Error("nothing is stored")
	}
}

// runAndKill lets a child send until so many transactions are acknowledged,
// kills it, and returns the first that was not.
func runAndKill(t *testing.T, brokers, topic string, first, n int) int {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestChildSendsTransactions$")
	child.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d", childBrokers, brokers, topic, first))
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	next := first
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if number, found := strings.CutPrefix(lines.Text(), "acknowledged "); found {
			last, err := strconv.Atoi(number)
			if err != nil {
				t.Fatal(err)
			}
			if next = last + 1; next-first == n {
				if err := child.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		} else if !strings.HasPrefix(lines.Text(), "opened") {
			t.Log(lines.Text())
		}
	}
	if err := child.Wait(); err == nil || next-first < n {
		t.Fatalf("the child ended by itself after transaction %d: %v", next-1, err)
	}
	return next
}

// An owner that was superseded without knowing it cannot commit any more.
func TestALaterOwnerFencesTheTransactionsOfTheOneBefore(t *testing.T) {
	t.Parallel()
	c, topic := brokers.Get(t), topicOf(t)
	makeTopic(t, c.Brokers(), topic, 3, nil)
	ctx := background(t)
	config := values{"brokers": c.Brokers(), "topic_template": topic, "transactional": true, "transactional_id": topic}
	before, after := newSink(t, config), newSink(t, config)
	open(ctx, t, before)
	if err := send(ctx, before, transactions(topic, 1, 2)...); err != nil {
		t.Fatal(err)
	}
	receipt, err := before.Send(ctx, transactions(topic, 3, 2))
	if err != nil {
		t.Fatal(err)
	}
	open(ctx, t, after)
	if err := receipt.Wait(ctx); err == nil {
		t.Error("the owner before committed a transaction")
	} else {
		wantError(t, err, delivery.VerdictRetry, "transactional id")
	}
	if err := send(ctx, after, transactions(topic, 3, 4)...); err != nil {
		t.Fatal(err)
	}
	problems, seen := torn(stored(t, c.Brokers(), topic))
	for _, problem := range problems {
		t.Error(problem)
	}
	for n := 1; n <= 6; n++ {
		if seen[n] != ofTransaction {
			t.Errorf("transaction %d has %d events", n, seen[n])
		}
	}
}

// The session ends between the events and their commit.
func TestATransactionWhoseCommitNeverCameIsRolledBackByTheNextSession(t *testing.T) {
	t.Parallel()
	c, topic := brokers.Get(t), topicOf(t)
	makeTopic(t, c.Brokers(), topic, 3, nil)
	ctx := background(t)
	sink := newSink(t, values{"brokers": c.Brokers(), "topic_template": topic, "transactional": true, "transactional_id": topic})
	asked := 0
	sink.Guard(func() error {
		if asked++; asked == 2 { // before the commit of the first wave
			kafka.CrashSink(sink)
		}
		return nil
	})
	open(ctx, t, sink)
	if err := send(ctx, sink, transactions(topic, 1, 2)...); err == nil {
		t.Fatal("committed without a connection")
	}
	if err := sink.Open(ctx); err != nil {
		t.Fatal(err)
	}
	if err := send(ctx, sink, transactions(topic, 1, 3)...); err != nil {
		t.Fatal(err)
	}
	problems, seen := torn(stored(t, c.Brokers(), topic))
	for _, problem := range problems {
		t.Error(problem)
	}
	for n := 1; n <= 3; n++ {
		if seen[n] != ofTransaction {
			t.Errorf("transaction %d has %d events", n, seen[n])
		}
	}
}

func TestATransactionThatIsTooLargeIsRefusedOrDivided(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	ctx := background(t)
	config := values{"brokers": f.brokers(), "topic_template": "t", "transactional": true}
	batch := transactions("t", 1, 2)
	for i := range ofTransaction {
		batch[ofTransaction+i].Transaction.Parted = true
	}
	refusing := newSink(t, config)
	open(ctx, t, refusing)
	_, err := refusing.Send(ctx, batch)
	wantError(t, err, delivery.VerdictReject, "too large to be stored at once", "transactional_oversize")
	splitting := newSink(t, config.with(values{"transactional_oversize": "split"}))
	open(ctx, t, splitting)
	if err := send(ctx, splitting, batch...); err != nil {
		t.Fatal(err)
	}
	if got := len(stored(t, f.brokers(), "t")); got != len(batch) {
		t.Errorf("%d events are stored, want %d", got, len(batch))
	}
}

// The client may hear of a topic so late that it takes the first transaction on
// it for an empty one, which it need not commit; see awaitPartitions.
func TestTheFirstTransactionOfEachSessionIsCommitted(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	f.create(t, "t", 1, nil)
	ctx := background(t)
	sink := newSink(t, values{"brokers": f.brokers(), "topic_template": "t", "transactional": true})
	const sessions = 150
	for n := range sessions {
		if err := sink.Open(ctx); err != nil {
			t.Fatal(err)
		}
		if err := send(ctx, sink, transactions("t", n+1, 1)...); err != nil {
			t.Fatal(err)
		}
	}
	if err := sink.Close(ctx); err != nil {
		t.Fatal(err)
	}
	_, seen := torn(stored(t, f.brokers(), "t"))
	for n := 1; n <= sessions; n++ {
		if seen[n] != ofTransaction {
			t.Errorf("transaction %d was acknowledged, and %d of its %d events are committed", n, seen[n], ofTransaction)
		}
	}
}
