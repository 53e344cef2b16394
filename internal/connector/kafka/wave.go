package kafka

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/fault"
	"github.com/pg-tide/pg-tide/internal/message"
)

const (
	// ackTimeout is how long the cluster may stay silent about a wave.
	ackTimeout = 12 * time.Second
	// mostBytes bounds a wave, and mostEvents one of transactions.
	mostBytes  = 16 << 20
	mostEvents = ReadTogether
	// mostWaiting bounds what is queued and not stored. The engine bounds what is
	// outstanding below that; this only guards the memory.
	mostWaiting = 64 << 20
)

// item is one event to be stored.
type item struct {
	record      *kgo.Record
	id          string
	transaction *message.Transaction
	bytes       int
}

// place is a partition of a topic.
type place struct {
	topic     string
	partition int32
}

func (p place) String() string { return fmt.Sprintf("partition %d of topic %s", p.partition, p.topic) }

// producer stores events from one Open to the next Close, wave after wave: a
// wave has at most one batch for each partition, and the next one is sent when
// the brokers have answered about all of it.
//
// Without that: batches 1 and 2 of a partition are on their way. The broker
// refuses 1, as too large, say, because the topic takes less than it did; 2 has
// a sequence number that it does not expect now, and is refused as well; but
// the client then asks for a new producer id, numbers 2 anew, and it is stored.
// Or 1 is given up after some attempts, and what the engine sends until it
// hears of that is stored. In both cases 1 is sent again and lies behind.
//
// Several batches at once would gain little: a wave takes what has queued up
// meanwhile, so that they are as large as the topic allows when it matters.
type producer struct {
	conn     *connection
	topics   *topics
	lookedUp atomic.Pointer[topics] // for the client, which asks from goroutines of its own
	settings *sinkSettings
	marks    *marks
	refusals *refusals
	owns     func() error
	keys     kgo.TopicPartitioner

	turn atomic.Int32 // partition of events without a key

	mu    sync.Mutex
	queue []*receipt // not stored yet, in order
	bytes int        // of the queue

	// storing is held by whoever stores a wave; it guards what follows.
	storing chan struct{}
	failed  error
	// warm are the topics that the client knows: what it buffers for another
	// goes out as soon as it does, in as many batches as it likes.
	warm map[string]bool
}

func newProducer(settings *sinkSettings, marks *marks, refusals *refusals, owns func() error) *producer {
	return &producer{
		settings: settings, marks: marks, refusals: refusals, owns: owns,
		keys:    kgo.StickyKeyPartitioner(nil).ForTopic(""),
		storing: make(chan struct{}, 1),
		warm:    map[string]bool{},
	}
}

func (p *producer) maxBatch(name string) int32 {
	if t := p.lookedUp.Load(); t != nil {
		return t.maxBatch(name)
	}
	return defaultMaxBatch
}

// partition is that of the key, hashed as Kafka's own clients do; events
// without one go to each partition in turn.
func (p *producer) partition(r *kgo.Record, in *topic) int32 {
	if r.Key == nil {
		return p.turn.Load() % in.partitions
	}
	return int32(p.keys.Partition(r, int(in.partitions))) //nolint:gosec // partitions are few
}

func (p *producer) findAll(ctx context.Context, names map[string]bool) error {
	for name := range names {
		if p.topics.get(name) == nil {
			if err := p.topics.find(ctx, name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *producer) enqueue(r *receipt) error {
	bytes := 0
	for i := range r.items {
		bytes += r.items[i].bytes
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bytes > 0 && p.bytes+bytes > mostWaiting {
		return delivery.RetryAfter(fmt.Errorf("the brokers at %s acknowledge nothing; events of %d MiB wait for it", p.conn.brokers, p.bytes>>20), 0)
	}
	p.bytes += bytes
	p.queue = append(p.queue, r)
	if turn := p.turn.Add(1); turn > 1<<30 {
		p.turn.Store(0)
	}
	return nil
}

func (p *producer) close() { p.conn.close() }

// receipt stands for the events of one Send.
type receipt struct {
	producer *producer
	items    []item
	alone    bool // one event, or one transaction
	// stored counts those that are, and refused is why the rest is not; both
	// are guarded by the producer's storing.
	stored  int
	refused error
}

// Wait stores what came before and then these events, unless that was done.
func (r *receipt) Wait(ctx context.Context) error {
	fault.At(fault.ForwardBeforeReceipt)
	p := r.producer
	select {
	case p.storing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-p.storing }()
	for r.stored < len(r.items) && r.refused == nil {
		if p.failed != nil {
			return p.failed
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		p.storeWave(ctx)
		fault.At(fault.ForwardAmidReceipt)
	}
	if r.refused != nil {
		return r.refused
	}
	fault.At(fault.ForwardAfterReceipt)
	return nil
}

// wave is what is stored at once.
type wave struct {
	items   []item
	of      []*receipt // whose each item is
	sizes   map[place]int
	counts  map[place]int
	bytes   int
	units   int
	results []error
}

func (w *wave) add(r *receipt, it item) {
	at := place{it.record.Topic, it.record.Partition}
	w.items, w.of = append(w.items, it), append(w.of, r)
	if w.counts[at] == 0 {
		w.sizes[at] = batchOverhead
	}
	w.sizes[at] += it.bytes + deltas
	w.counts[at]++
	w.bytes += it.bytes
}

// collect takes what may go at once from the front of the queue.
func (p *producer) collect() *wave {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := &wave{sizes: map[place]int{}, counts: map[place]int{}}
	for _, r := range p.queue {
		for from := r.stored; from < len(r.items); {
			until := from + 1
			if p.settings.transactional {
				until = transactionEnd(r.items, from)
			}
			if !p.fits(w, r.items[from:until]) {
				return w
			}
			for _, it := range r.items[from:until] {
				w.add(r, it)
			}
			w.units++
			from = until
		}
	}
	return w
}

// fits tells whether a wave takes an event, or a transaction, as well.
func (p *producer) fits(w *wave, unit []item) bool {
	if w.units == 0 {
		return true
	}
	careful := p.refusals.careful()
	if p.settings.transactional {
		return !careful && len(w.items)+len(unit) <= mostEvents && w.bytes <= mostBytes
	}
	at := place{unit[0].record.Topic, unit[0].record.Partition}
	if w.bytes+unit[0].bytes > mostBytes {
		return false
	}
	if w.counts[at] == 0 {
		return true
	}
	return !careful && p.warm[at.topic] && w.sizes[at]+unit[0].bytes+deltas <= p.topics.get(at.topic).maxBatch
}

// transactionEnd returns where the events of one transaction end.
func transactionEnd(items []item, from int) int {
	end := from + 1
	t := items[from].transaction
	for t != nil && end < len(items) && items[end].transaction == t {
		end++
	}
	return end
}

// storeWave stores the next wave. Whatever goes wrong ends the session, so that
// nothing is stored behind what was lost; but for an event that was alone.
func (p *producer) storeWave(ctx context.Context) {
	w := p.collect()
	if len(w.items) == 0 {
		p.failed = errors.New("a receipt waits for events that are not queued")
		return
	}
	err := p.mayStore()
	if err == nil {
		if p.settings.transactional {
			err = p.storeTransaction(ctx, w)
		} else {
			err = p.produce(ctx, w)
		}
	}
	if err == nil {
		p.landed(w)
		return
	}
	p.lost(ctx, w, err)
}

func (p *producer) mayStore() error {
	if p.owns == nil {
		return nil
	}
	return p.owns()
}

// errInWave says that the results of a wave have an error.
var errInWave = errors.New("not all of the wave was stored")

// produce sends a wave and waits for the brokers' answers.
func (p *producer) produce(ctx context.Context, w *wave) error {
	w.results = make([]error, len(w.items))
	var mu sync.Mutex
	left := len(w.items)
	answered := make(chan struct{})
	// A record that is on its way cannot be called back: the context only
	// keeps it from being sent at all.
	life := context.WithoutCancel(ctx)
	for i := range w.items {
		p.conn.client.Produce(life, w.items[i].record, func(_ *kgo.Record, err error) {
			mu.Lock()
			defer mu.Unlock()
			w.results[i] = err
			if left--; left == 0 {
				close(answered)
			}
		})
		fault.At(fault.ForwardAmidSend)
	}
	bounded, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	if err := p.conn.client.Flush(bounded); err != nil {
		return p.silent(ctx, w)
	}
	select {
	case <-answered:
	case <-bounded.Done():
		return p.silent(ctx, w)
	}
	for _, err := range w.results {
		if err != nil {
			return errInWave
		}
	}
	return nil
}

// silent says why the brokers do not answer.
func (p *producer) silent(ctx context.Context, w *wave) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := p.conn.ping(ctx); err != nil {
		return err
	}
	if err := p.lacking(ctx, w); err != nil {
		return err
	}
	return delivery.RetryAfter(fmt.Errorf("the brokers at %s did not acknowledge %d events within %s", p.conn.brokers, len(w.items), ackTimeout), 0)
}

// lacking finds a partition of the wave without a leader, or with too few
// replicas.
func (p *producer) lacking(ctx context.Context, w *wave) error {
	names := map[string]bool{}
	for at := range w.counts {
		names[at.topic] = true
	}
	var all []string
	for name := range names {
		all = append(all, name)
	}
	asked, cancel := p.conn.request(ctx)
	defer cancel()
	details, err := p.conn.admin.ListTopics(asked, all...)
	if err != nil {
		return p.conn.explain("look why events are not acknowledged", "topic "+strings.Join(all, ", "), answer(asked, err))
	}
	for at := range w.counts {
		d, found := details[at.topic].Partitions[at.partition]
		known := p.topics.get(at.topic)
		switch {
		case !found:
			continue
		case d.Leader < 0:
			return delivery.RetryAfter(fmt.Errorf("%s has no leader now; a broker is down, or the cluster moves its partitions", at), 0)
		case !p.settings.leaderOnly && known != nil && len(d.ISR) < known.minInsync:
			return delivery.RetryAfter(fmt.Errorf("%s has %d in-sync replicas and its min.insync.replicas asks for %d; brokers are down or behind, and events wait until they are back", at, len(d.ISR), known.minInsync), 0)
		}
	}
	return nil
}

// landed takes a wave that is stored from the queue.
func (p *producer) landed(w *wave) {
	for i, r := range w.of {
		r.stored++
		p.warm[w.items[i].record.Topic] = true
		p.refusals.passed(w.items[i].id)
		p.marks.note(p.topics.get(w.items[i].record.Topic), w.items[i].record)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bytes -= w.bytes
	for len(p.queue) > 0 && p.queue[0].stored == len(p.queue[0].items) {
		p.queue[0] = nil
		p.queue = p.queue[1:]
	}
}
