package nats

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
)

const (
	// impossibleSequence is one that no stream ends at: whoever expects it
	// stores nothing.
	impossibleSequence = "9007199254740991"
	// resendAttempts is how often what is missing of a transaction is stored
	// anew: what an earlier session sent may arrive meanwhile.
	resendAttempts = 3
	// limitsLast is how long a limit is believed that the broker showed.
	limitsLast = time.Minute

	// questionsAtOnce is how many are asked before their answers are waited for.
	questionsAtOnce = 50

	codeWrongLastID       jetstream.ErrorCode = 10070
	codeWrongLastSequence jetstream.ErrorCode = 10071
)

// atomicSettings say whether transactions are stored whole.
type atomicSettings struct {
	wanted bool
	// split stores a transaction that is too large in several batches.
	split bool
}

// remark says what a broker that is too old for atomic batches gets instead.
func (c *connection) remark(s atomicSettings) string {
	if !s.wanted || c.atLeast(2, 12) {
		return ""
	}
	return fmt.Sprintf("the server at %s is %s, and atomic needs 2.12: events are sent one by one, and a transaction's may be seen in part",
		c.broker, c.nc.ConnectedServerVersion())
}

// takesBatches says why transactions cannot be stored whole in a stream.
func takesBatches(info *jetstream.StreamInfo) error {
	if info.Config.AllowAtomicPublish {
		return nil
	}
	return misconfigured("stream %s takes no atomic batches (allow_atomic is off), and the pipeline is atomic; set allow_atomic in the configuration of the stream, or leave out atomic",
		info.Config.Name)
}

// batchLimits is what the broker showed of its limits: it does not tell them.
type batchLimits struct {
	mu sync.Mutex
	// pack is how many events go into one batch.
	pack int
	// refused is how many were too many for it in one transaction; 0 when none were.
	refused int
	at      time.Time
}

// packs is how many events to put into one batch.
func (l *batchLimits) packs() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expire()
	return l.pack
}

// takes says whether a transaction of n events fits one batch, as far as is known.
func (l *batchLimits) takes(n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expire()
	return n <= MaxAtomicBatch && (l.refused == 0 || n < l.refused)
}

// expire forgets what may have been mended meanwhile. The lock is held.
func (l *batchLimits) expire() {
	if l.pack == 0 || time.Since(l.at) > limitsLast {
		l.pack, l.refused, l.at = MaxAtomicBatch, 0, time.Now()
	}
}

// learn takes in that n events were too many, of one transaction or of several.
func (l *batchLimits) learn(n int, whole bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expire()
	l.at = time.Now()
	l.pack = max(1, min(l.pack, n/2))
	if whole {
		l.refused = n
	}
}

// tooLarge parts a batch that the broker does not take at once. A transaction
// that must not be parted ends the session; the next one refuses it before
// anything behind it is sent.
func (r *orderedReceipt) tooLarge(b *batch, n int) ([]batch, error) {
	halves := b.halves()
	r.limits.learn(n, halves == nil)
	if halves == nil {
		return nil, delivery.RetryAfter(fmt.Errorf("a transaction of %d events is more than the broker at %s takes in one atomic batch (batch.max_msgs)", n, r.conn.broker), 0)
	}
	return halves, nil
}

// together makes batches of envelopes so that each transaction lies in one. It
// names those that cannot be stored at once, whatever is sent.
func (s *Sink) together(envelopes []message.Envelope, messages []natsgo.Msg, failed map[int]error) ([]batch, error) {
	var batches []batch
	events := 0
	var end int
	for from := 0; from < len(envelopes); from = end {
		end = transactionEnd(envelopes, from)
		stream, err := s.oneStream(messages[from:end])
		if err == nil {
			err = s.fits(envelopes[from].Transaction, end-from)
		}
		if verdict, _ := delivery.VerdictOf(err); err != nil && verdict != delivery.VerdictReject {
			return nil, err
		}
		if err != nil {
			for i := from; i < end; i++ {
				failed[i] = err
			}
			continue
		}
		u := unit{messages: messages[from:end:end], divisible: s.atomic.split}
		last := len(batches) - 1
		if last >= 0 && batches[last].stream == stream && events+end-from <= s.limits.packs() {
			batches[last].units = append(batches[last].units, u)
			events += end - from
			continue
		}
		batches = append(batches, s.parts(stream, u)...)
		events = len(batches[len(batches)-1].units[0].messages)
	}
	return batches, nil
}

// parts makes a batch of a unit, or several where it is too large for one.
func (s *Sink) parts(stream *jetstream.StreamInfo, u unit) []batch {
	if u.divisible && len(u.messages) > s.limits.packs() {
		return inOrder(stream, u.messages, s.limits.packs())
	}
	return []batch{{stream, []unit{u}}}
}

// transactionEnd returns where the envelopes of one transaction end.
func transactionEnd(envelopes []message.Envelope, from int) int {
	end := from + 1
	t := envelopes[from].Transaction
	for t != nil && end < len(envelopes) && envelopes[end].Transaction == t {
		end++
	}
	return end
}

// oneStream says which stream takes all of a transaction's events.
func (s *Sink) oneStream(messages []natsgo.Msg) (*jetstream.StreamInfo, error) {
	var one *jetstream.StreamInfo
	for i := range messages {
		subject := messages[i].Subject
		if i > 0 && subject == messages[i-1].Subject {
			continue
		}
		info := s.streamOf(subject)
		switch {
		case info == nil || !coversAll(info.Config.Subjects, []string{subject}):
			return nil, delivery.RetryAfter(fmt.Errorf("no stream of the pipeline takes subject %q, and with atomic it must be known which will; looking again", subject), 0)
		case one != nil && info != one:
			return nil, delivery.Reject(fmt.Errorf("the events of its transaction go to streams %s and %s, and only one stream can take all or none of them (atomic); let one stream take all subjects, or leave out atomic",
				one.Config.Name, info.Config.Name))
		}
		one = info
	}
	return one, nil
}

// fits says why a transaction is too large to be stored at once.
func (s *Sink) fits(t *message.Transaction, events int) error {
	if s.atomic.split || t == nil {
		return nil
	}
	const advice = `; publish less in one transaction, or set "atomic_oversize": "split", which stores it in several batches`
	switch {
	case t.Parted:
		return delivery.Reject(fmt.Errorf("transaction %d is too large to be stored at once (atomic): it has more events, or bytes, than are read at once"+advice, t.XID))
	case !s.limits.takes(events):
		return delivery.Reject(fmt.Errorf("transaction %d is too large to be stored at once (atomic): it has %d events, and the broker takes fewer in one batch (batch.max_msgs; %d unless it is configured)"+advice, t.XID, events, MaxAtomicBatch))
	}
	return nil
}

// storeMissing stores what the stream does not have of some transactions, at
// once. One that an earlier session stored it has whole; of one it has a part
// when events came one by one, before the pipeline was atomic or as dead letters
// that were retried: nothing takes those back, and the rest is added whole.
func (r *orderedReceipt) storeMissing(ctx context.Context, stream *jetstream.StreamInfo, messages []natsgo.Msg) error {
	for attempt := range resendAttempts {
		known, err := r.known(ctx, stream, messages, attempt > 0)
		if err != nil {
			return err
		}
		var missing []natsgo.Msg
		taken := map[string]bool{} // an id may be given to two events; the first counts
		for i := range messages {
			id := messageID(&messages[i])
			if known[i] || id != "" && taken[id] {
				continue
			}
			taken[id] = true
			missing = append(missing, messages[i])
		}
		if len(missing) == 0 {
			return nil
		}
		if err := r.commit(ctx, stream, missing); codeOf(err) != codeContainsDuplicate {
			return err
		}
	}
	return delivery.RetryAfter(fmt.Errorf("stream %s came to know events of a transaction while the rest was to be stored; reading again", stream.Config.Name), 0)
}

// known asks of each message whether the stream has one of its id.
func (r *orderedReceipt) known(ctx context.Context, stream *jetstream.StreamInfo, messages []natsgo.Msg, surely bool) ([]bool, error) {
	known := make([]bool, 0, len(messages))
	for chunk := range slices.Chunk(messages, questionsAtOnce) {
		some, err := r.askSome(ctx, stream, chunk, surely)
		if err != nil {
			return nil, err
		}
		known = append(known, some...)
	}
	return known, nil
}

// question makes a message that the broker can only refuse: as a duplicate, or
// for what it expects of the stream. Duplicates must be looked for first, and
// nothing be remembered of what was refused. A stream without replicas does so
// with an expected last message id; the leader of replicas with an expected
// sequence, while a message id would be expected by each replica, and its own
// remembered before that. Surely, and at a cost, it is done with an atomic batch.
func question(m *natsgo.Msg, reply string, stream *jetstream.StreamInfo, surely bool) *natsgo.Msg {
	q := &natsgo.Msg{Subject: m.Subject, Reply: reply, Header: natsgo.Header{}}
	q.Header[jetstream.MsgIDHeader] = m.Header[jetstream.MsgIDHeader]
	switch {
	case surely:
		mark(q, nuid.Next(), 1)
		q.Header[batchCommit] = []string{"1"}
		q.Header[jetstream.ExpectedLastSeqHeader] = []string{impossibleSequence}
	case stream.Config.Replicas > 1:
		q.Header[jetstream.ExpectedLastSeqHeader] = []string{impossibleSequence}
	default:
		q.Header[jetstream.ExpectedLastMsgIDHeader] = []string{"none, " + nuid.Next()}
	}
	return q
}

func (r *orderedReceipt) askSome(ctx context.Context, stream *jetstream.StreamInfo, messages []natsgo.Msg, surely bool) ([]bool, error) {
	inbox := r.conn.nc.NewInbox()
	sub, err := r.conn.nc.SubscribeSync(inbox + ".*")
	if err != nil {
		return nil, r.conn.over(fmt.Errorf("subscribe for what stream %s has: %w", stream.Config.Name, err))
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only with the connection
	for i := range messages {
		if err := r.conn.mayPublish(); err != nil {
			return nil, err
		}
		q := question(&messages[i], inbox+"."+strconv.Itoa(i), stream, surely)
		if err := r.conn.nc.PublishMsg(q); err != nil {
			return nil, r.conn.publishFailed(q.Subject, err)
		}
	}
	request, cancel := r.conn.request(ctx)
	defer cancel()
	known := make([]bool, len(messages))
	for range messages {
		reply, err := sub.NextMsgWithContext(request)
		if err != nil {
			return nil, fmt.Errorf("ask what stream %s has: %w", stream.Config.Name, r.conn.answer(request, err))
		}
		at, err := strconv.Atoi(strings.TrimPrefix(reply.Subject, inbox+"."))
		if err != nil || at < 0 || at >= len(known) {
			return nil, fmt.Errorf("ask what stream %s has: an answer to no question on %s", stream.Config.Name, reply.Subject)
		}
		if known[at], err = saysKnown(reply); err != nil {
			return nil, r.explain(stream, messages[at].Subject, err)
		}
	}
	return known, nil
}

func saysKnown(reply *natsgo.Msg) (bool, error) {
	var answer struct {
		Error *jetstream.APIError `json:"error"`
		jetstream.PubAck
	}
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return false, fmt.Errorf("read the broker's answer: %w", err)
	}
	if answer.Error == nil {
		if !answer.Duplicate {
			return false, fmt.Errorf("the broker stored a question as message %d of stream %s, an empty one", answer.Sequence, answer.Stream)
		}
		return true, nil
	}
	switch answer.Error.ErrorCode {
	case codeContainsDuplicate:
		return true, nil
	case codeWrongLastSequence, codeWrongLastID:
		return false, nil
	}
	return false, answer.Error
}
