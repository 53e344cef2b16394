package demo

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// sample is the state of the bus at one moment, as the picture shows it.
type sample struct {
	elapsed, lasts time.Duration
	outboxes       []outboxSample
	bus, place     string
	broker         int
	brokerRate     float64
	inboxes        []inboxSample
	// queue is how many events waited for the payment service, over time.
	queue []int
	story []string
	news  []string
}

type outboxSample struct {
	service, outbox       string
	committed, rolledBack int
	rate                  float64
	lag                   int
}

type inboxSample struct {
	service, inbox                string
	arrived, waiting, unprocessed int
	rate                          float64
	// delay is the median from commit to arrival of late, 0 when not known.
	delay time.Duration
	down  bool
}

// meter turns a growing count into a rate.
type meter struct {
	at    time.Time
	count int
	last  float64
}

// rate is that of the last whole second.
func (m *meter) rate(count int, now time.Time) float64 {
	if m.at.IsZero() {
		m.at, m.count = now, count
	}
	if passed := now.Sub(m.at).Seconds(); passed >= 1 {
		m.last = float64(count-m.count) / passed
		m.at, m.count = now, count
	}
	return m.last
}

// delays keeps the last few times from commit to arrival.
type delays struct {
	mu   sync.Mutex
	last []time.Duration
}

func (d *delays) add(one time.Duration) {
	const kept = 200
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.last) >= kept {
		d.last = d.last[1:]
	}
	d.last = append(d.last, max(0, one))
}

// median empties nothing: a service that is down keeps its last value.
func (d *delays) median() time.Duration {
	d.mu.Lock()
	sorted := slices.Sorted(slices.Values(d.last))
	d.mu.Unlock()
	if len(sorted) == 0 {
		return 0
	}
	return sorted[len(sorted)/2]
}

// observer looks at the bus again and again.
type observer struct {
	show   *show
	meters map[string]*meter
	queue  []int
}

func newObserver(s *show) *observer { return &observer{show: s, meters: map[string]*meter{}} }

func (o *observer) rate(name string, count int) float64 {
	m := o.meters[name]
	if m == nil {
		m = &meter{}
		o.meters[name] = m
	}
	return m.rate(count, time.Now())
}

// look takes a sample. It asks the databases, in which the truth is.
func (o *observer) look(ctx context.Context) (sample, error) {
	b := o.show
	s := sample{elapsed: time.Since(b.began), lasts: b.options.For, bus: b.broker.name(), place: b.broker.place(),
		broker: b.broker.seen(), story: b.follower.story(), news: b.news.all()}
	s.brokerRate = o.rate("broker", s.broker)
	for _, end := range b.outboxes() {
		one := outboxSample{service: end.service.name, outbox: end.outbox}
		if err := end.service.pool.QueryRow(ctx, query("forward_lag")).Scan(&one.lag); err != nil {
			return sample{}, fmt.Errorf("ask %s for its lag: %w", end.service.name, err)
		}
		one.committed, one.rolledBack = b.ledger.counts(end.outbox)
		one.rate = o.rate(end.outbox, one.committed)
		s.outboxes = append(s.outboxes, one)
	}
	for _, h := range b.hops() {
		if h.inbox == "" {
			continue
		}
		one := inboxSample{service: h.service.name, inbox: h.inbox, delay: h.delays.median(), down: h.service.down.Load()}
		// Counted before, so that what is committed meanwhile is not missing.
		if err := h.service.pool.QueryRow(ctx, query(h.count)).Scan(&one.arrived, &one.unprocessed); err != nil {
			return sample{}, fmt.Errorf("count what arrived at %s: %w", h.inbox, err)
		}
		one.waiting = max(0, b.ledger.count(h.wants)-one.arrived)
		one.rate = o.rate(h.inbox, one.arrived)
		s.inboxes = append(s.inboxes, one)
	}
	o.queue = append(o.queue, s.inboxes[0].waiting+s.inboxes[0].unprocessed)
	s.queue = o.queue
	return s, nil
}

// trouble asks every service what does not move, and why.
func (s *show) trouble(ctx context.Context) []string {
	var all []string
	for _, one := range s.services() {
		rows, err := one.pool.Query(ctx, query("trouble"))
		if err != nil {
			all = append(all, fmt.Sprintf("%s cannot be asked: %v", one.name, err))
			continue
		}
		lines, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
			var pipeline, state, reason string
			err := row.Scan(&pipeline, &state, &reason)
			return fmt.Sprintf("%s: %s is %s: %s", one.name, pipeline, state, reason), err
		})
		if err != nil {
			all = append(all, fmt.Sprintf("%s cannot be asked: %v", one.name, err))
		}
		all = append(all, lines...)
	}
	return all
}
