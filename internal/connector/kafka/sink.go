package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/fault"
	"github.com/pg-tide/pg-tide/internal/message"
)

const (
	// recordRetries is how often the client sends a batch again that the
	// broker could not store, before the session ends and says why.
	recordRetries = 5
	// produceTimeout is how long the broker may wait for its replicas.
	produceTimeout = 5 * time.Second
	// maxBuffered only guards against the client's own bound: waves are smaller.
	maxBuffered = 1 << 20
)

// Deps is what the connector needs besides its configuration.
type Deps struct {
	// Pipeline is the pipeline's name.
	Pipeline string
	// DatabaseID names the database that the pipeline lives in.
	DatabaseID string
	// Outbox is the name of the outbox that a sink's events leave from, made
	// safe for a topic. It stands in for {outbox} when topics are looked up
	// before any event. May be empty.
	Outbox string
	// Templates are all topic templates of a sink, where routing adds some;
	// empty means the configuration's own topic_template.
	Templates []string
	Logger    *slog.Logger
}

func (d *Deps) logger() *slog.Logger {
	if d.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return d.Logger.With("pipeline", d.Pipeline)
}

// name makes a name that belongs to this pipeline of this database.
func (d *Deps) name() string { return "pg_tide." + d.Pipeline + "." + d.DatabaseID }

// sinkSettings are what a producer is made with.
type sinkSettings struct {
	topics        topicSettings
	leaderOnly    bool
	compression   kgo.CompressionCodec
	transactional bool
	split         bool
	id            string // of transactions
	timeout       time.Duration
}

// Sink stores envelopes in Kafka's topics. It is used by one goroutine at a
// time, but for receipts, which may wait in others.
type Sink struct {
	address  address
	settings sinkSettings
	fixed    []string         // topics that no event has a say in
	patterns []*regexp.Regexp // of all topics
	deps     Deps
	log      *slog.Logger
	refusals refusals

	mu       sync.Mutex
	producer *producer
	remark   string
	owns     func() error
	marks    marks
}

// NewSink checks the configuration and connects to nothing.
func NewSink(values Values, deps Deps) (*Sink, error) {
	s := &Sink{deps: deps, log: deps.logger()}
	var err error
	if s.address, err = readAddress(values); err != nil {
		return nil, err
	}
	if s.settings, err = readSinkSettings(values, &deps); err != nil {
		return nil, err
	}
	templates := deps.Templates
	if len(templates) == 0 {
		templates = []string{values.String("topic_template")}
	}
	for _, template := range templates {
		if deps.Outbox != "" {
			template = strings.NewReplacer("{outbox}", deps.Outbox, "{outbox_name}", deps.Outbox).Replace(template)
		}
		s.patterns = append(s.patterns, pattern(template))
		if template == "" || strings.Contains(template, "{") {
			continue
		}
		if problem := topicProblem(template); problem != "" {
			return nil, misconfigured("topic %q cannot be written to: %s", template, problem)
		}
		s.fixed = append(s.fixed, template)
	}
	return s, nil
}

// pattern takes whatever a template can produce.
func pattern(template string) *regexp.Regexp {
	const hole = "\x00"
	text := placeholder.ReplaceAllLiteralString(template, hole)
	return regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(text), hole, "[A-Za-z0-9._-]+") + "$")
}

var placeholder = regexp.MustCompile(`\{[^}]*\}`)

func (s *Sink) writesTo(topic string) bool {
	return slices.ContainsFunc(s.patterns, func(p *regexp.Regexp) bool { return p.MatchString(topic) })
}

func readSinkSettings(values Values, deps *Deps) (sinkSettings, error) {
	s := sinkSettings{
		leaderOnly:    values.String("acks") == "leader",
		transactional: values.Bool(TransactionalKey),
		split:         values.String("transactional_oversize") == "split",
		id:            values.String("transactional_id"),
	}
	var err error
	if s.topics, err = readTopicSettings(values); err != nil {
		return s, err
	}
	if s.timeout, err = readDuration(values, "transaction_timeout", time.Minute); err != nil {
		return s, err
	}
	if s.transactional && s.leaderOnly {
		return s, misconfigured("transactional asks for acks all, and acks is leader; leave out one of them")
	}
	if s.id != "" && !s.transactional {
		return s, misconfigured("transactional_id is given and transactional is not true; add it, or leave out the id")
	}
	if s.id == "" {
		s.id = deps.name()
	}
	switch values.String("compression") {
	case "gzip":
		s.compression = kgo.GzipCompression()
	case "snappy":
		s.compression = kgo.SnappyCompression()
	case "lz4":
		s.compression = kgo.Lz4Compression()
	case "zstd":
		s.compression = kgo.ZstdCompression()
	default:
		s.compression = kgo.NoCompression()
	}
	return s, nil
}

// Guard sets what is asked before everything that is stored from the next
// Open on: nil while the relay still owns the pipeline.
func (s *Sink) Guard(owns func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owns = owns
}

// Open connects, finds or creates the topics that are known by name, and gets
// the producer's id, which fences the transactions of an earlier owner.
func (s *Sink) Open(ctx context.Context) error {
	if err := s.Close(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	owns := s.owns
	s.mu.Unlock()
	p := newProducer(&s.settings, &s.marks, &s.refusals, owns)
	conn, err := connect(ctx, &s.address, "pg_tide sink "+s.deps.Pipeline, s.producerOptions(p)...)
	if err != nil {
		return err
	}
	p.conn, p.topics = conn, newTopics(conn, s.settings.topics, s.log)
	p.lookedUp.Store(p.topics)
	if err := s.prepare(ctx, p); err != nil {
		conn.close()
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.producer = p
	s.marks.reset()
	s.note(s.doubt(p.topics))
	return nil
}

func (s *Sink) prepare(ctx context.Context, p *producer) error {
	if err := p.topics.find(ctx, s.fixed...); err != nil {
		return err
	}
	if s.settings.leaderOnly {
		return nil
	}
	asked, cancel := p.conn.request(ctx)
	defer cancel()
	for attempt := 0; ; attempt++ {
		_, _, err := p.conn.client.ProducerID(asked)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case coordinatorMoves(err) && pause(asked, backoff(attempt)) == nil:
			continue
		}
		return p.conn.explain("get a producer id", "transactional id "+s.settings.id, answer(asked, err))
	}
}

func (s *Sink) producerOptions(p *producer) []kgo.Opt {
	options := []kgo.Opt{
		// What is in a wave is known, and goes when it is complete.
		kgo.ManualFlushing(),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.MaxBufferedRecords(maxBuffered),
		kgo.ProducerBatchMaxBytesFn(p.maxBatch),
		kgo.ProducerBatchCompression(s.settings.compression),
		kgo.RecordRetries(recordRetries),
		kgo.UnknownTopicRetries(recordRetries),
		kgo.ProduceRequestTimeout(produceTimeout),
		// A broker that forgot what it had acknowledged ends the session: the
		// next one looks what is missing.
		kgo.StopProducerOnDataLossDetected(),
	}
	switch {
	case s.settings.leaderOnly:
		options = append(options, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite(), kgo.MaxProduceRequestsInflightPerBroker(1))
	case s.settings.transactional:
		options = append(options, kgo.TransactionalID(s.settings.id), kgo.TransactionTimeout(s.settings.timeout))
	}
	return options
}

// doubt says in words what makes an acknowledgement worth less than it sounds.
func (s *Sink) doubt(t *topics) string {
	if s.settings.leaderOnly {
		return "acks is leader: events that the leader of a partition has acknowledged are lost with it when it fails before its replicas have them"
	}
	for _, name := range s.fixed {
		if known := t.get(name); known != nil && known.replicas > 1 && known.minInsync == 1 {
			return fmt.Sprintf("topic %s has %d replicas and min.insync.replicas 1: an acknowledged event may be on one broker alone, and is lost with it; set min.insync.replicas to 2", name, known.replicas)
		}
	}
	return ""
}

// note keeps a remark and logs it when it is new. The lock is held.
func (s *Sink) note(remark string) {
	if remark != "" && remark != s.remark {
		s.log.Warn("an acknowledgement is worth less than asked for", "reason", remark)
	}
	s.remark = remark
}

// Remark says what makes an acknowledgement worth less than it sounds.
func (s *Sink) Remark() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.remark
}

func (s *Sink) current() (*producer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.producer == nil {
		return nil, errors.New("used Kafka before the sink was opened")
	}
	return s.producer, nil
}

// Watch waits until the cluster is gone.
func (s *Sink) Watch(ctx context.Context) error {
	p, err := s.current()
	if err != nil {
		return err
	}
	return p.conn.watch(ctx)
}

// Send checks the envelopes and queues them; they are stored by whoever waits
// for a receipt.
func (s *Sink) Send(ctx context.Context, envelopes []message.Envelope) (delivery.Receipt, error) {
	p, err := s.current()
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	names := map[string]bool{}
	failed := map[int]error{}
	for i := range envelopes {
		if problem := topicProblem(envelopes[i].Destination); problem != "" {
			failed[i] = delivery.Reject(fmt.Errorf("topic %q cannot be written to: %s", envelopes[i].Destination, problem))
			continue
		}
		names[envelopes[i].Destination] = true
	}
	if err := p.findAll(ctx, names); err != nil {
		return nil, err
	}
	alone := together(envelopes)
	r := &receipt{producer: p, alone: alone}
	r.items = make([]item, len(envelopes))
	for i := range envelopes {
		if failed[i] != nil {
			continue
		}
		if err := s.place(p, &envelopes[i], &r.items[i], alone); err != nil {
			failed[i] = err
		}
	}
	if len(failed) > 0 {
		return nil, &delivery.Partial{Failed: failed}
	}
	fault.At(fault.ForwardBeforeSend)
	if err := p.enqueue(r); err != nil {
		return nil, err
	}
	fault.At(fault.ForwardAfterSend)
	return r, nil
}

// place makes a record of an envelope and chooses its partition.
func (s *Sink) place(p *producer, e *message.Envelope, it *item, alone bool) error {
	if err := s.refusals.known(e.EventID, alone); err != nil {
		return err
	}
	in := p.topics.get(e.Destination)
	it.record, it.id, it.transaction = toRecord(e), e.EventID, e.Transaction
	it.bytes = recordBytes(it.record)
	it.record.Partition = p.partition(it.record, in)
	if err := checkRecord(it.record, in); err != nil {
		return err
	}
	if t := e.Transaction; s.settings.transactional && !s.settings.split && t != nil && t.Parted {
		return delivery.Reject(fmt.Errorf("transaction %d is too large to be stored at once (transactional): it has more events, or bytes, than are read at once; publish less in one transaction, or set \"transactional_oversize\": \"split\", which stores it in several Kafka transactions", t.XID))
	}
	return nil
}

// together tells whether the envelopes are one event, or one transaction.
func together(envelopes []message.Envelope) bool {
	for i := 1; i < len(envelopes); i++ {
		t := envelopes[i].Transaction
		if t == nil || t != envelopes[0].Transaction {
			return false
		}
	}
	return true
}

// Close drops the connection; it may be called twice, or before Open.
func (s *Sink) Close(context.Context) error {
	s.mu.Lock()
	p := s.producer
	s.producer = nil
	s.mu.Unlock()
	if p != nil {
		p.close()
	}
	return nil
}
