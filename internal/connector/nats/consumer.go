package nats

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/fault"
)

const (
	// readerPrefix starts the metadata keys by which a consumer remembers who reads through it.
	readerPrefix     = "tide-reader-"
	consumerAttempts = 10
	// expirySlack is how long the broker may take to notice that ack_wait has passed.
	expirySlack  = 300 * time.Millisecond
	pollInterval = 250 * time.Millisecond
)

// consumerSettings say what the durable consumer looks like.
type consumerSettings struct {
	durable       string
	filters       []string
	start         startPoint
	ackWait       time.Duration // 0 when not given
	maxAckPending int           // 0 when not given
	reader        string        // this pipeline of this database
	pipeline      string
	// claim and known are what the database remembers: the claim by which it
	// reads, and up to where it has the stream; 0 when it remembers nothing.
	claim int64
	known uint64
}

func readConsumerSettings(values Values, deps *Deps) (consumerSettings, error) {
	s := consumerSettings{
		durable:       values.String("durable_name"),
		ackWait:       time.Duration(values.Int("ack_wait_secs")) * time.Second,
		maxAckPending: int(values.Int("max_ack_pending")),
		pipeline:      deps.Pipeline,
		reader:        readerPrefix + deps.DatabaseID + "/" + deps.Pipeline,
	}
	if s.durable == "" {
		s.durable = values.String("consumer_group")
	}
	if s.durable == "" {
		s.durable = strings.Trim("tide-"+streamLabel([]string{deps.Pipeline, deps.DatabaseID}), "-")
	}
	if strings.ContainsAny(s.durable, " \t\r\n.*>/\\") {
		return s, misconfigured("durable_name %q is not a name JetStream allows: blanks and . * > / \\ are not; rename it", s.durable)
	}
	for filter := range strings.SplitSeq(values.String("subject"), ",") {
		filter = strings.TrimSpace(filter)
		if problem := checkPattern(filter); problem != "" {
			return s, misconfigured("subject %q cannot be read: %s; write one such as events.orders.>", filter, problem)
		}
		s.filters = append(s.filters, filter)
	}
	var err error
	s.start, err = readStartPoint(values.String("deliver_from"))
	return s, err
}

func (s *consumerSettings) create() jetstream.ConsumerConfig {
	cfg := jetstream.ConsumerConfig{
		Durable:       s.durable,
		Description:   "Reads for pg_tide inboxes",
		DeliverPolicy: s.start.policy,
		OptStartSeq:   s.start.sequence,
		OptStartTime:  s.start.time,
		// To acknowledge all before would cover what a dead session never inserted.
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       defaultAckWait,
		MaxAckPending: defaultMaxAckPending,
		MaxDeliver:    -1,
		Metadata:      map[string]string{markKey: markValue, s.reader: s.claimText()},
	}
	if fault.Mutant(fault.ReuseAckAll) {
		cfg.AckPolicy = jetstream.AckAllPolicy
	}
	if s.ackWait > 0 {
		cfg.AckWait = s.ackWait
	}
	if s.maxAckPending > 0 {
		cfg.MaxAckPending = s.maxAckPending
	}
	if s.known > 0 && (s.start.policy == jetstream.DeliverNewPolicy || s.start.policy == jetstream.DeliverLastPolicy) {
		// It was deleted in the broker, and what came since would be skipped.
		startAfter(&cfg, s.known)
	}
	if len(s.filters) == 1 {
		cfg.FilterSubject = s.filters[0]
	} else {
		cfg.FilterSubjects = s.filters
	}
	return cfg
}

// ensureConsumer finds, creates or adjusts the durable consumer.
func (c *connection) ensureConsumer(ctx context.Context, stream *jetstream.StreamInfo, s *consumerSettings) (jetstream.Consumer, error) {
	var last error
	for range consumerAttempts {
		consumer, err := c.tryConsumer(ctx, stream, s)
		if err == nil {
			return consumer, nil
		}
		// Somebody else created or deleted it in between.
		if !errors.Is(err, jetstream.ErrConsumerExists) && !errors.Is(err, jetstream.ErrConsumerNotFound) && !errors.Is(err, jetstream.ErrConsumerDoesNotExist) {
			return nil, err
		}
		last = err
	}
	return nil, c.explainRequest("find consumer "+s.durable, last)
}

func (c *connection) tryConsumer(ctx context.Context, stream *jetstream.StreamInfo, s *consumerSettings) (jetstream.Consumer, error) {
	name := stream.Config.Name
	request, cancel := c.request(ctx)
	defer cancel()
	found, err := c.js.Consumer(request, name, s.durable)
	switch {
	case err == nil:
		info := found.CachedInfo()
		if err := fitsSource(info, stream, s); err != nil {
			return nil, err
		}
		if err := s.claimed(info); err != nil {
			return nil, err
		}
		next, changed := s.adjust(info.Config)
		if !changed {
			return found, nil
		}
		updated, err := c.js.UpdateConsumer(request, name, next)
		return updated, c.explainConsumer("adjust consumer "+s.durable, name, s, c.answer(request, err))
	case errors.Is(err, jetstream.ErrConsumerNotFound):
		created, err := c.js.CreateConsumer(request, name, s.create())
		return created, c.explainConsumer("create consumer "+s.durable, name, s, c.answer(request, err))
	case errors.Is(err, jetstream.ErrNotPullConsumer):
		return nil, misconfigured("consumer %s of stream %s pushes its messages, and pg_tide pulls them; choose another durable_name", s.durable, name)
	}
	return nil, c.explainRequest("look up consumer "+s.durable, c.answer(request, err))
}

// adjust changes what is harmless to change: only what was configured, and
// who reads.
func (s *consumerSettings) adjust(cfg jetstream.ConsumerConfig) (jetstream.ConsumerConfig, bool) {
	changed := false
	if s.ackWait > 0 && cfg.AckWait != s.ackWait {
		cfg.AckWait, changed = s.ackWait, true
	}
	if s.maxAckPending > 0 && cfg.MaxAckPending != s.maxAckPending {
		cfg.MaxAckPending, changed = s.maxAckPending, true
	}
	if _, known := cfg.Metadata[s.reader]; !known || s.claimOf(&cfg) < s.claim {
		cfg.Metadata = maps.Clone(cfg.Metadata)
		if cfg.Metadata == nil {
			cfg.Metadata = map[string]string{}
		}
		cfg.Metadata[s.reader], changed = s.claimText(), true
	}
	return cfg, changed
}

// shared reports whether others read through the consumer as well. A broker
// that keeps no metadata leaves the answer open; then it is taken for shared.
func (s *consumerSettings) shared(cfg *jetstream.ConsumerConfig) bool {
	readers := 0
	for key := range cfg.Metadata {
		if strings.HasPrefix(key, readerPrefix) {
			readers++
		}
	}
	return readers != 1
}

// fitsSource says why an existing consumer cannot be read through.
func fitsSource(info *jetstream.ConsumerInfo, stream *jetstream.StreamInfo, s *consumerSettings) error {
	cfg := &info.Config
	remedy := fmt.Sprintf("delete it (nats consumer rm %s %s) or choose another durable_name", info.Stream, info.Name)
	switch {
	case cfg.DeliverSubject != "":
		return misconfigured("consumer %s of stream %s pushes its messages, and pg_tide pulls them; %s", info.Name, info.Stream, remedy)
	case cfg.AckPolicy != jetstream.AckExplicitPolicy && !fault.Mutant(fault.ReuseAckAll):
		return misconfigured("consumer %s of stream %s has the acknowledgement policy %s, and pg_tide needs explicit to lose nothing; %s", info.Name, info.Stream, cfg.AckPolicy, remedy)
	case cfg.MaxDeliver > 0:
		return misconfigured("consumer %s of stream %s gives up on a message after %d deliveries (max_deliver), which would lose it; set it to -1, or %s", info.Name, info.Stream, cfg.MaxDeliver, remedy)
	case cfg.HeadersOnly:
		return misconfigured("consumer %s of stream %s delivers headers without bodies (headers_only); %s", info.Name, info.Stream, remedy)
	case len(cfg.PriorityGroups) > 0:
		return misconfigured("consumer %s of stream %s has priority groups, which pg_tide does not use; %s", info.Name, info.Stream, remedy)
	case !sameFilter(filtersOf(cfg), s.filters, stream.Config.Subjects):
		return misconfigured("consumer %s of stream %s reads %s, and the pipeline asks for %s; %s", info.Name, info.Stream,
			describeFilters(filtersOf(cfg)), describeFilters(s.filters), remedy)
	case info.Paused:
		return delivery.RetryAfter(fmt.Errorf("consumer %s of stream %s is paused by somebody for another %s; resume it with nats consumer resume", info.Name, info.Stream, info.PauseRemaining.Round(time.Second)), storageRetryInterval)
	}
	return nil
}

func filtersOf(cfg *jetstream.ConsumerConfig) []string {
	if cfg.FilterSubject != "" {
		return []string{cfg.FilterSubject}
	}
	return cfg.FilterSubjects
}

// sameFilter compares as sets; no filter reads all that the stream takes.
func sameFilter(have, want, all []string) bool {
	if len(have) == 0 {
		return len(all) > 0 && coversAll(want, all)
	}
	a, b := slices.Sorted(slices.Values(have)), slices.Sorted(slices.Values(want))
	return slices.Equal(a, b)
}

func describeFilters(filters []string) string {
	if len(filters) == 0 {
		return "the whole stream"
	}
	return strings.Join(filters, ", ")
}

func (c *connection) explainConsumer(doing, stream string, s *consumerSettings, err error) error {
	if err == nil || errors.Is(err, jetstream.ErrConsumerExists) || errors.Is(err, jetstream.ErrConsumerDoesNotExist) {
		return err
	}
	switch codeOf(err) {
	case codeNotSubset:
		return misconfigured("%s: stream %s takes nothing of %s; mend subject or name another stream", doing, stream, describeFilters(s.filters))
	case codeQueueUnfiltered, codeQueueNotUnique:
		return misconfigured("%s: stream %s has the wrong retention: a work queue gives each message to one consumer, and another reads %s already; share its durable_name or use a stream with retention limits", doing, stream, describeFilters(s.filters))
	case codeQueueNotAll:
		return misconfigured("%s: stream %s is a work queue, which is read from its start only; set deliver_from to all", doing, stream)
	case jetstream.JSErrCodeMaximumConsumersLimit:
		return misconfigured("%s: stream %s has as many consumers as it may have (max_consumers); delete one or raise the limit", doing, stream)
	case codeMaxAckPending:
		return misconfigured("%s: %w; lower max_ack_pending", doing, err)
	}
	return c.explainRequest(doing, err)
}

// settle makes sure that what an earlier session left unacknowledged comes
// before anything later. It returns the next delivery number, or 0 when others
// read as well and the numbers have gaps for us; and what it took already.
//
// Without it: a relay dies with 1 to 9 delivered and not inserted; for
// ack_wait the broker gives the next session 10, 11, … and only then 1 to 9.
func (c *connection) settle(ctx context.Context, consumer jetstream.Consumer, s *consumerSettings) (next uint64, due []*natsgo.Msg, err error) {
	info, err := c.consumerInfo(ctx, consumer)
	if err != nil {
		return 0, nil, err
	}
	if fault.Mutant(fault.ReuseAckAll) || fault.Mutant(fault.ReuseAckEach) {
		return 0, nil, nil
	}
	shared := s.shared(&info.Config)
	if info.NumAckPending > 0 && !shared && c.atLeast(2, 14) {
		fault.At(fault.ReverseBeforeReset)
		request, cancel := c.request(ctx)
		defer cancel()
		if _, err := c.js.ResetConsumer(request, info.Stream, info.Name); err != nil {
			return 0, nil, c.explainRequest("reset consumer "+info.Name, c.answer(request, err))
		}
		fault.At(fault.ReverseAfterReset)
		return 1, nil, nil
	}
	if info.NumAckPending > 0 {
		if info, err = c.awaitExpiry(ctx, consumer, info); err != nil {
			return 0, nil, err
		}
	}
	if info.NumAckPending > 0 {
		// Sorted, their numbers are not in sequence.
		due, err = c.takeDue(ctx, info)
		return 0, due, err
	}
	if shared {
		return 0, nil, nil
	}
	return info.Delivered.Consumer + 1, nil, nil
}

// awaitExpiry waits until whatever was delivered before is acknowledged or
// due again: the broker delivers what is due before anything new.
func (c *connection) awaitExpiry(ctx context.Context, consumer jetstream.Consumer, info *jetstream.ConsumerInfo) (*jetstream.ConsumerInfo, error) {
	wait := info.Config.AckWait + expirySlack
	if last := info.Delivered.Last; last != nil && !info.TimeStamp.IsZero() {
		wait -= info.TimeStamp.Sub(*last)
	}
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for {
		select {
		case <-deadline.C:
			return c.consumerInfo(ctx, consumer)
		case <-c.ended:
			return nil, c.cause
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-poll.C:
		}
		latest, err := c.consumerInfo(ctx, consumer)
		if err != nil || latest.NumAckPending == 0 {
			return latest, err
		}
	}
}

func (c *connection) consumerInfo(ctx context.Context, consumer jetstream.Consumer) (*jetstream.ConsumerInfo, error) {
	request, cancel := c.request(ctx)
	defer cancel()
	info, err := consumer.Info(request)
	if err == nil {
		return info, nil
	}
	if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, errDeleted(consumer.CachedInfo())
	}
	return nil, c.explainRequest("look at the consumer", c.answer(request, err))
}

func errDeleted(info *jetstream.ConsumerInfo) error {
	return fmt.Errorf("consumer %s of stream %s was deleted in the broker; making it anew", info.Name, info.Stream)
}
