package nats

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/fault"
	"github.com/pg-tide/pg-tide/internal/message"
)

// maxHeaderBytes is what JetStream stores of headers at most.
const maxHeaderBytes = 64<<10 - 1

// Deps is what the connector needs besides its configuration.
type Deps struct {
	// Pipeline is the pipeline's name.
	Pipeline string
	// DatabaseID names the database that the pipeline lives in.
	DatabaseID string
	// Outbox is the name of the outbox that a sink's events leave from, as a
	// template fills it in: one safe token. It stands in for {outbox} when
	// the stream is sought. May be empty.
	Outbox string
	// Templates are all subject templates of a sink, where routing adds some;
	// empty means the configuration's own subject_template.
	Templates []string
	Logger    *slog.Logger
}

func (d *Deps) logger() *slog.Logger {
	if d.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return d.Logger.With("pipeline", d.Pipeline)
}

// Sink publishes envelopes to JetStream. It is used by one goroutine at a
// time, but for receipts, which may wait in others.
type Sink struct {
	address  address
	settings streamSettings
	atomic   atomicSettings
	limits   *batchLimits
	patterns []string
	deps     Deps
	log      *slog.Logger

	mu      sync.Mutex
	conn    *connection
	streams []*jetstream.StreamInfo
	ordered bool            // one batch after the other, each whole
	whole   bool            // the same, and transactions are kept together
	last    *orderedReceipt // of an ordered sink
	remark  string          // see Remark
	owns    func() error    // see Guard

	marks marks
}

// Guard sets what is asked before everything that is published from the next
// Open on: nil while the relay still owns the pipeline.
func (s *Sink) Guard(owns func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owns = owns
}

// NewSink checks the configuration and connects to nothing.
func NewSink(values Values, deps Deps) (*Sink, error) {
	s := &Sink{deps: deps, log: deps.logger(), limits: &batchLimits{}}
	var err error
	if s.address, err = readAddress(values); err != nil {
		return nil, err
	}
	if s.settings, err = readStreamSettings(values); err != nil {
		return nil, err
	}
	s.atomic = atomicSettings{wanted: values.Bool("atomic"), split: values.String("atomic_oversize") == "split"}
	s.settings.atomic = s.atomic.wanted
	templates := deps.Templates
	if len(templates) == 0 {
		templates = []string{values.String("subject_template")}
	}
	for _, template := range templates {
		p := pattern(template, deps.Outbox)
		if problem := checkPattern(p); problem != "" {
			return nil, misconfigured("subject %q cannot be published to: %s", template, problem)
		}
		s.patterns = append(s.patterns, p)
	}
	return s, nil
}

// Open connects, and finds or creates the streams that take the subjects.
func (s *Sink) Open(ctx context.Context) error {
	if err := s.Close(ctx); err != nil {
		return err
	}
	conn, err := connect(ctx, &s.address, "pg_tide sink "+s.deps.Pipeline)
	if err != nil {
		return err
	}
	streams, err := s.findStreams(ctx, conn)
	if err != nil {
		conn.close()
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	conn.owns = s.owns
	s.conn, s.streams, s.last = conn, streams, nil
	s.marks.reset()
	s.note(conn.remark(s.atomic))
	s.whole = s.atomic.wanted && s.remark == ""
	s.ordered = s.whole || len(streams) == 1 && sentInOrder(&streams[0].Config)
	return nil
}

// note keeps a remark and logs it when it is new. The lock is held.
func (s *Sink) note(remark string) {
	if remark != "" && remark != s.remark {
		s.log.Warn("the sink does less than was asked of it", "reason", remark)
	}
	s.remark = remark
}

// Remark says that the broker is too old for what is configured.
func (s *Sink) Remark() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.remark
}

// Watch waits until the connection is lost.
func (s *Sink) Watch(ctx context.Context) error {
	s.mu.Lock()
	conn := s.conn
	s.mu.Unlock()
	if conn == nil {
		return errors.New("watched NATS before the sink was opened")
	}
	select {
	case <-conn.ended:
		return conn.cause
	case <-ctx.Done():
		return nil
	}
}

// findStreams looks for one stream for each subject: routes may lead to
// several. A stream named in the configuration takes them all.
func (s *Sink) findStreams(ctx context.Context, conn *connection) ([]*jetstream.StreamInfo, error) {
	groups := [][]string{s.patterns}
	if s.settings.name == "" {
		groups = groups[:0]
		for _, p := range s.patterns {
			groups = append(groups, []string{p})
		}
	}
	var streams []*jetstream.StreamInfo
	for _, group := range groups {
		finder := &streamFinder{conn: conn, settings: s.settings, log: s.log}
		info, err := finder.find(ctx, group)
		if err != nil {
			return nil, err
		}
		if err := fitsSink(info, group, s.log); err != nil {
			return nil, err
		}
		if s.atomic.wanted && conn.atLeast(2, 12) {
			if err := takesBatches(info); err != nil {
				return nil, err
			}
		}
		if s.settings.duplicateWindow > info.Config.Duplicates {
			s.log.Warn("stream of others has a shorter duplicate window than configured", "stream", info.Config.Name,
				"duplicate_window", info.Config.Duplicates, "configured", s.settings.duplicateWindow)
		}
		streams = append(streams, info)
	}
	return streams, nil
}

// Send publishes the envelopes in order, without waiting for the broker.
func (s *Sink) Send(ctx context.Context, envelopes []message.Envelope) (delivery.Receipt, error) {
	s.mu.Lock()
	conn := s.conn
	s.mu.Unlock()
	if conn == nil {
		return nil, errors.New("send to NATS before the sink was opened")
	}
	messages := make([]natsgo.Msg, len(envelopes))
	failed := map[int]error{}
	var bytes int64
	for i := range envelopes {
		bytes += int64(len(envelopes[i].Body))
		toMessage(&envelopes[i], &messages[i])
		if err := s.check(conn, &messages[i]); err != nil {
			failed[i] = err
		}
	}
	var batches []batch
	switch {
	case s.whole:
		var err error
		if batches, err = s.together(envelopes, messages, failed); err != nil {
			return nil, err
		}
	case s.ordered:
		batches = inOrder(s.streams[0], messages, s.limits.packs())
	}
	if len(failed) > 0 {
		return nil, &delivery.Partial{Failed: failed}
	}
	fault.At(fault.ForwardBeforeSend)
	if len(batches) > 0 {
		return s.queue(conn, batches, bytes)
	}
	r := newReceipt(conn, s.streams, &s.marks, len(messages))
	for i := range messages {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := conn.mayPublish(); err != nil {
			return nil, err
		}
		// No retry by the client: 250 ms later is behind later messages.
		ack, err := conn.js.PublishMsgAsync(&messages[i], jetstream.WithRetryAttempts(clientRetries()), jetstream.WithStallWait(requestTimeout))
		if err != nil {
			return nil, conn.publishFailed(messages[i].Subject, err)
		}
		r.acks[i] = ack
		fault.At(fault.ForwardAmidSend)
	}
	fault.At(fault.ForwardAfterSend)
	return r, nil
}

func (c *connection) publishFailed(subject string, err error) error {
	if errors.Is(err, jetstream.ErrTooManyStalledMsgs) {
		err = fmt.Errorf("the broker at %s acknowledges nothing; %d events wait for it", c.broker, maxPendingPublishes)
	}
	return c.over(fmt.Errorf("publish to subject %q: %w", subject, err))
}

func toMessage(e *message.Envelope, m *natsgo.Msg) {
	m.Subject, m.Data = e.Destination, e.Body
	m.Header = make(natsgo.Header, len(e.Headers)+1)
	// one allocation for all values; capped, so that a name that comes twice
	// does not write into the next value
	values := make([]string, 0, len(e.Headers)+1)
	put := func(value string) []string {
		values = append(values, value)
		return values[len(values)-1 : len(values) : len(values)]
	}
	for _, h := range e.Headers {
		if earlier, twice := m.Header[h.Name]; twice {
			m.Header[h.Name] = append(earlier, h.Value)
			continue
		}
		m.Header[h.Name] = put(h.Value)
	}
	if e.EventID != "" {
		m.Header[jetstream.MsgIDHeader] = put(e.EventID)
	}
}

// check refuses what the broker would never take, or what would do something
// else than carry the event. It sees headers as they go on the wire.
func (s *Sink) check(conn *connection, m *natsgo.Msg) error {
	header := len("NATS/1.0\r\n\r\n")
	for name, values := range m.Header {
		for _, value := range values {
			header += len(name) + len(": \r\n") + len(value)
			if problem := headerProblem(name, value); problem != "" {
				return delivery.Reject(fmt.Errorf("header %q %s", name, problem))
			}
		}
	}
	if s.ordered {
		header += batchHeaderBytes
	}
	size := header + len(m.Data)
	if problem := subjectProblem(m.Subject); problem != "" {
		return delivery.Reject(fmt.Errorf("subject %q cannot be published to: %s", m.Subject, problem))
	}
	if limit := conn.nc.MaxPayload(); int64(size) > limit {
		return delivery.Reject(fmt.Errorf("the event is too large: %d bytes with its headers, and the broker takes %d (max_payload)", size, limit))
	}
	if header > maxHeaderBytes {
		return delivery.Reject(fmt.Errorf("the event's headers are too large: %d bytes, and JetStream takes %d", header, maxHeaderBytes))
	}
	if info := s.streamOf(m.Subject); info != nil && info.Config.MaxMsgSize > 0 && size > int(info.Config.MaxMsgSize) {
		return delivery.Reject(fmt.Errorf("the event is too large: %d bytes with its headers, and stream %s takes %d (max_msg_size)", size, info.Config.Name, info.Config.MaxMsgSize))
	}
	return nil
}

// headerProblem keeps a publisher's header from commanding the broker:
// Nats-Rollup, for one, would delete the stream's earlier messages.
func headerProblem(name, value string) string {
	if name == "" {
		return "has no name"
	}
	for i := range len(name) {
		if name[i] < 33 || name[i] > 126 || name[i] == ':' {
			return "has a character in its name that NATS does not carry"
		}
	}
	if name != jetstream.MsgIDHeader && len(name) >= 5 && strings.EqualFold(name[:5], "nats-") {
		return "is reserved for the broker; give it another name"
	}
	// Two searches for a byte take a sixth of the time of one for either, and
	// this one is made for each header of each event.
	if strings.IndexByte(value, '\n') >= 0 || strings.IndexByte(value, '\r') >= 0 {
		return "has a line break in its value, which NATS does not carry"
	}
	return ""
}

func subjectProblem(subject string) string {
	if problem := checkPattern(subject); problem != "" {
		return problem
	}
	for token := range strings.SplitSeq(subject, ".") {
		if token == "*" || token == ">" {
			return "it holds a wildcard"
		}
	}
	return ""
}

// streamOf is the stream that takes the subject, as far as it is known.
func (s *Sink) streamOf(subject string) *jetstream.StreamInfo {
	if len(s.streams) == 1 {
		return s.streams[0]
	}
	for _, info := range s.streams {
		if coversAll(info.Config.Subjects, []string{subject}) {
			return info
		}
	}
	return nil
}

// Close drops the connection; it may be called twice, or before Open.
func (s *Sink) Close(context.Context) error {
	s.mu.Lock()
	conn := s.conn
	s.conn, s.streams, s.last = nil, nil, nil
	s.mu.Unlock()
	if conn != nil {
		conn.close()
	}
	return nil
}
