package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/pipeline"
	"github.com/pg-tide/pg-tide/internal/retry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errAway = errors.New("connection refused")

// events returns n events e1 to en; keys go round.
func events(n int, keys ...string) []message.Message {
	all := make([]message.Message, n)
	for i := range all {
		all[i] = message.Message{EventID: fmt.Sprintf("e%d", i+1), OutboxID: int64(i + 1), Payload: []byte("{}")}
		if len(keys) > 0 {
			all[i].Key = keys[i%len(keys)]
		}
	}
	return all
}

// fakeOutbox is an outbox in memory; a position's LastID is how many events are done.
type fakeOutbox struct {
	mu     sync.Mutex
	all    []message.Message
	more   chan struct{} // closed and replaced when events are added
	next   int
	saved  int
	saves  []int
	opened int
	read   int // pages handed out in total
	// openFails, readFails and saveFails may be nil.
	openFails, readFails func() error
	saveFails            func(last int) error
	// saving, when set, holds up each save until it delivers.
	saving chan struct{}
	closed int
}

func newOutbox(all []message.Message) *fakeOutbox {
	return &fakeOutbox{all: all, more: make(chan struct{})}
}

func (o *fakeOutbox) publish(more ...message.Message) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all = append(o.all, more...)
	close(o.more)
	o.more = make(chan struct{})
}

func (o *fakeOutbox) Open(context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.opened++
	if o.openFails != nil {
		if err := o.openFails(); err != nil {
			return err
		}
	}
	o.next = o.saved
	return nil
}

func (o *fakeOutbox) Read(ctx context.Context, limit int) (message.Page, error) {
	for {
		o.mu.Lock()
		if o.readFails != nil {
			if err := o.readFails(); err != nil {
				o.mu.Unlock()
				return message.Page{}, err
			}
		}
		if o.next < len(o.all) {
			end := min(len(o.all), o.next+limit)
			for end < len(o.all) && o.all[end].Transaction != nil && o.all[end].Transaction == o.all[end-1].Transaction {
				end++ // whole transactions
			}
			page := message.Page{Messages: slices.Clone(o.all[o.next:end]), Position: message.Position{LastID: int64(end)}}
			o.next = end
			o.read++
			o.mu.Unlock()
			return page, nil
		}
		more := o.more
		o.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			return message.Page{}, ctx.Err()
		}
	}
}

func (o *fakeOutbox) Save(ctx context.Context, p message.Position) error {
	if o.saving != nil {
		select {
		case <-o.saving:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.saveFails != nil {
		if err := o.saveFails(int(p.LastID)); err != nil {
			return err
		}
	}
	o.saved = int(p.LastID)
	o.saves = append(o.saves, o.saved)
	return nil
}

func (o *fakeOutbox) Close(context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed++
	return nil
}

func (o *fakeOutbox) position() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.saved
}

// fakeSink stores what it is sent, as the script says.
type fakeSink struct {
	mu     sync.Mutex
	stored []string // in the order of arrival, with repetitions
	acked  map[string]bool
	sends  int
	// openFails and sendFails may be nil; the latter is asked before anything is stored.
	openFails func() error
	sendFails func(ids []string) error
	// outcome decides about a send: which are stored, and what Wait returns.
	outcome func(ids []string) (stored []string, err error)
	// receipts, when set, holds up each Wait until it delivers.
	receipts chan struct{}
	open     int
	// broken: the connection was lost, and with it all that follows in the session.
	broken  error
	waiting int
	most    int // greatest number of receipts that were outstanding
}

func newSink() *fakeSink { return &fakeSink{acked: map[string]bool{}} }

func (s *fakeSink) Open(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.openFails != nil {
		if err := s.openFails(); err != nil {
			return err
		}
	}
	s.open++
	s.broken = nil
	return nil
}

func (s *fakeSink) Close(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = 0
	return nil
}

func (s *fakeSink) Send(_ context.Context, envelopes []message.Envelope) (delivery.Receipt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for i := range envelopes {
		ids = append(ids, envelopes[i].EventID)
	}
	if s.sendFails != nil {
		if err := s.sendFails(ids); err != nil {
			return nil, err
		}
	}
	s.sends++
	s.waiting++
	s.most = max(s.most, s.waiting)
	stored, err := ids, error(nil)
	if s.broken != nil {
		return &fakeReceipt{sink: s, err: s.broken}, nil
	}
	if s.outcome != nil {
		stored, err = s.outcome(ids)
	}
	if errors.Is(err, errAway) {
		s.broken = err
	}
	s.stored = append(s.stored, stored...)
	return &fakeReceipt{sink: s, ids: stored, err: err}, nil
}

type fakeReceipt struct {
	sink *fakeSink
	ids  []string
	err  error
}

func (r *fakeReceipt) Wait(ctx context.Context) error {
	if r.sink.receipts != nil {
		select {
		case <-r.sink.receipts:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	r.sink.mu.Lock()
	defer r.sink.mu.Unlock()
	r.sink.waiting--
	var partial *delivery.Partial
	if r.err == nil || errors.As(r.err, &partial) {
		for _, id := range r.ids {
			r.sink.acked[id] = true
		}
	}
	return r.err
}

func (s *fakeSink) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.stored)
}

// chance fails now and then, as the dice say, until its budget is used up.
type chance struct {
	mu     sync.Mutex
	budget int
	dice   []int
	rolls  int
}

func (c *chance) fails() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rolls++
	if c.budget == 0 || c.dice[c.rolls%len(c.dice)] != 0 {
		return false
	}
	c.budget--
	return true
}

// firsts returns the events in the order of their first arrival.
func firsts(ids []string) []string {
	seen := map[string]bool{}
	var order []string
	for _, id := range ids {
		if !seen[id] {
			seen[id] = true
			order = append(order, id)
		}
	}
	return order
}

// refuse makes a sink refuse some events for good, by their receipts.
func refuse(bad func(id string) bool) func(ids []string) ([]string, error) {
	return func(ids []string) (stored []string, err error) {
		failed := map[int]error{}
		for i, id := range ids {
			if bad(id) {
				failed[i] = delivery.Reject(errors.New("too bad"))
			} else {
				stored = append(stored, id)
			}
		}
		if len(failed) == 0 {
			return stored, nil
		}
		return stored, &delivery.Partial{Failed: failed}
	}
}

// fakeLetters keeps dead letters in memory.
type fakeLetters struct {
	mu      sync.Mutex
	letters []message.DeadLetter
	due     map[int64]bool
	nextID  int64
	// most is how many there ever were at once, counts how often that was asked.
	most, counts int
	// looks counts how often due letters were asked for.
	looks int
	// holding is called when the held keys were read and not yet returned; may be nil.
	holding func()
}

func newLetters() *fakeLetters { return &fakeLetters{due: map[int64]bool{}} }

func identityOf(l *message.DeadLetter) string { return l.Message.EventID + "|" + l.Coordinates }

func (f *fakeLetters) Add(_ context.Context, letters []message.DeadLetter) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range letters {
		at := slices.IndexFunc(f.letters, func(o message.DeadLetter) bool { return identityOf(&o) == identityOf(&l) })
		if at >= 0 {
			if l.Attempts > 0 {
				f.letters[at].Error, f.letters[at].Attempts = l.Error, l.Attempts
			}
			continue
		}
		f.nextID++
		l.ID = f.nextID
		f.letters = append(f.letters, l)
		f.most = max(f.most, len(f.letters))
	}
	return nil
}

func (f *fakeLetters) Due(_ context.Context, limit int, inOrder bool) (due []message.DeadLetter, _ error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looks++
	waits := map[string]bool{}
	for _, l := range f.letters {
		if !f.due[l.ID] && l.Attempts > 0 && l.HoldsKey {
			waits[l.Message.Key] = true
		}
		asked := f.due[l.ID] || inOrder && l.HoldsKey && l.Attempts == 0
		if asked && (!inOrder || !waits[l.Message.Key]) && len(due) < limit {
			due = append(due, l)
		}
	}
	return due, nil
}

func (f *fakeLetters) Settle(_ context.Context, id int64, err error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.due, id)
	at := slices.IndexFunc(f.letters, func(l message.DeadLetter) bool { return l.ID == id })
	if err != nil {
		f.letters[at].Error = err.Error()
		f.letters[at].Attempts++
		return nil
	}
	f.letters = slices.Delete(f.letters, at, at+1)
	return nil
}

func (f *fakeLetters) Held(context.Context) (keys []message.HeldKey, _ error) {
	f.mu.Lock()
	for _, l := range f.letters {
		known := func(k message.HeldKey) bool { return k.Key == l.Message.Key }
		if l.HoldsKey && !slices.ContainsFunc(keys, known) {
			keys = append(keys, message.HeldKey{Key: l.Message.Key, OutboxID: l.Message.OutboxID})
		}
	}
	holding := f.holding
	f.holding = nil
	f.mu.Unlock() // whoever waits for a lock keeps the bubble's time from passing
	if holding != nil {
		holding()
	}
	return keys, nil
}

func (f *fakeLetters) Count(context.Context) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts++
	return len(f.letters), nil
}

func (f *fakeLetters) retry(ids ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.letters {
		if slices.Contains(ids, l.Message.EventID) {
			f.due[l.ID] = true
		}
	}
}

func (f *fakeLetters) discard(ids ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.letters = slices.DeleteFunc(f.letters, func(l message.DeadLetter) bool { return slices.Contains(ids, l.Message.EventID) })
}

func (f *fakeLetters) ids() (ids []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.letters {
		ids = append(ids, l.Message.EventID)
	}
	return ids
}

func (f *fakeLetters) retryAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.letters {
		f.due[l.ID] = true
	}
}

// fakeCodec copies; it cannot decode a body that begins with "bad".
type fakeCodec struct{}

func (fakeCodec) Encode(m *message.Message) (message.Envelope, error) {
	if strings.HasPrefix(string(m.Payload), "bad") {
		return message.Envelope{}, delivery.Reject(errors.New("not JSON"))
	}
	return message.Envelope{EventID: m.EventID, Key: m.Key, Body: m.Payload}, nil
}

func (fakeCodec) Decode(e *message.Envelope) (message.Message, error) {
	if strings.HasPrefix(string(e.Body), "bad") {
		return message.Message{}, delivery.Reject(errors.New("not JSON"))
	}
	return message.Message{EventID: e.EventID, Key: e.Key, Payload: e.Body}, nil
}

// changeFunc is a Change.
type changeFunc func(m *message.Message) (bool, error)

func (f changeFunc) Apply(m *message.Message) (bool, error) { return f(m) }

// fakeSource is a stream in memory; what is not acknowledged comes again after Open.
type fakeSource struct {
	mu      sync.Mutex
	all     []message.Envelope
	more    chan struct{}
	next    int
	acked   int
	ackFail func() error
	// checks is asked before an acknowledgement counts.
	checks func(upTo int)
	opened int
	// silent says that it does not know how much is left.
	silent bool
}

func (s *fakeSource) Backlog() (int64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opened == 0 || s.silent {
		return 0, false
	}
	return int64(len(s.all) - s.acked), true
}

func (s *fakeSource) quiet(silent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent = silent
}

func newSource(all []message.Message) *fakeSource {
	s := &fakeSource{more: make(chan struct{})}
	s.add(all)
	return s
}

// add makes the stream longer, as long as nobody waits at its end.
func (s *fakeSource) add(more []message.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range more {
		s.all = append(s.all, message.Envelope{EventID: more[i].EventID, Key: more[i].Key, Body: more[i].Payload,
			Coordinates: fmt.Sprintf("fake:%d", len(s.all)+1), Headers: []message.Header{{Name: "n", Value: "v"}}})
	}
}

func (s *fakeSource) Open(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened++
	s.next = s.acked
	return nil
}

func (s *fakeSource) Fetch(ctx context.Context, limit int) (message.Delivery, error) {
	s.mu.Lock()
	if s.next >= len(s.all) {
		s.mu.Unlock()
		<-ctx.Done()
		return message.Delivery{}, ctx.Err()
	}
	defer s.mu.Unlock()
	end := min(len(s.all), s.next+limit)
	d := message.Delivery{Envelopes: s.all[s.next:end], Acknowledge: func(context.Context) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.ackFail != nil {
			if err := s.ackFail(); err != nil {
				return err
			}
		}
		if s.checks != nil {
			s.checks(end)
		}
		s.acked = max(s.acked, end)
		return nil
	}}
	s.next = end
	return d, nil
}

func (s *fakeSource) Close(context.Context) error { return nil }

func (s *fakeSource) acknowledged() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acked
}

// fakeInbox keeps messages in memory, each event id once.
type fakeInbox struct {
	mu    sync.Mutex
	ids   []string
	known map[string]bool
	fails func(ids []string) error
	// hangs may hold a call up; slow says how long calls take, in turn.
	hangs func(ids []string)
	slow  []int
	calls int
}

func newInbox() *fakeInbox { return &fakeInbox{known: map[string]bool{}} }

func (i *fakeInbox) Insert(_ context.Context, messages []message.Message) (n int, err error) {
	var ids []string
	for k := range messages {
		ids = append(ids, messages[k].EventID)
	}
	if i.hangs != nil {
		i.hangs(ids)
	}
	i.mu.Lock()
	i.calls++
	call := i.calls
	i.mu.Unlock()
	if len(i.slow) > 0 {
		<-time.After(time.Duration(i.slow[call%len(i.slow)]) * time.Millisecond)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.fails != nil {
		if err := i.fails(ids); err != nil {
			return 0, err
		}
	}
	for _, id := range ids {
		if !i.known[id] {
			i.known[id] = true
			i.ids = append(i.ids, id)
			n++
		}
	}
	return n, nil
}

func (i *fakeInbox) all() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.ids)
}

// fakeRegistry owns what it is told to own.
type fakeRegistry struct {
	mu       sync.Mutex
	specs    []pipeline.Spec
	fails    error
	changed  chan struct{}
	reports  map[int64]pipeline.Report
	history  []pipeline.Report
	released []int64
	left     int
}

func newRegistry(specs ...pipeline.Spec) *fakeRegistry {
	return &fakeRegistry{specs: specs, changed: make(chan struct{}, 1), reports: map[int64]pipeline.Report{}}
}

func (r *fakeRegistry) Heartbeat(context.Context) ([]pipeline.Spec, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.specs), r.fails
}

func (r *fakeRegistry) Changed() <-chan struct{} { return r.changed }

func (r *fakeRegistry) Report(_ context.Context, reports []pipeline.Report) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, report := range reports {
		r.reports[report.PipelineID] = report
		r.history = append(r.history, report)
	}
	return nil
}

// reported is how many reports were stored.
func (r *fakeRegistry) reported() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.history)
}

func (r *fakeRegistry) Release(_ context.Context, id, _ int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.released = append(r.released, id)
	return nil
}

func (r *fakeRegistry) Leave(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.left++
	return nil
}

func (r *fakeRegistry) own(specs ...pipeline.Spec) {
	r.mu.Lock()
	r.specs = specs
	r.mu.Unlock()
	signal(r.changed)
}

func (r *fakeRegistry) failWith(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fails = err
}

func (r *fakeRegistry) report(id int64) pipeline.Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reports[id]
}

// builderFunc is a Builder.
type builderFunc func(spec pipeline.Spec) (Plan, error)

func (f builderFunc) Build(_ context.Context, spec pipeline.Spec) (Plan, error) { return f(spec) }

// start runs a supervisor until the returned function is called, or the test ends.
func start(t testing.TB, registry *fakeRegistry, build builderFunc, options Options) (*Supervisor, func()) {
	ctx, cancel := context.WithCancel(t.Context())
	s := NewSupervisor(registry, build, retry.System{}, slog.New(slog.DiscardHandler), options)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Run(ctx)
	}()
	stop := sync.OnceFunc(func() {
		cancel()
		<-done
	})
	return s, stop
}

// await polls a condition on the bubble's clock.
func await(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for range 60_000 {
		if condition() {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	t.Fatalf("waited in vain: %s", what)
}
