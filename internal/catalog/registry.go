package catalog

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/fault"
	"github.com/pg-tide/pg-tide/internal/pipeline"
)

// heartbeatTimeout bounds a heartbeat well below the seven seconds after which
// a relay counts as dead.
const heartbeatTimeout = 3 * time.Second

// Registry is which pipelines this relay owns, among the relays of the
// database. A relay is dead after seven seconds without a heartbeat, by the
// database's clock.
type Registry struct {
	catalog *Catalog

	mu     sync.Mutex
	buried time.Time
}

// Registry returns the relay's view of the pipelines. There is one for a catalog.
func (c *Catalog) Registry() *Registry { return c.registry }

// Heartbeat says that this relay lives, claims its fair share of the enabled
// pipelines that nobody alive owns, and returns those it owns. Where there is
// nothing to claim it is one statement.
func (r *Registry) Heartbeat(ctx context.Context) ([]pipeline.Spec, error) {
	const doing = "heartbeat"
	fault.At(fault.OwnerBeforeHeartbeat)
	ctx, cancel := context.WithTimeout(ctx, heartbeatTimeout)
	defer cancel()
	due, bury := true, r.mayBury()
	var specs []pipeline.Spec
	var err error
	if !bury {
		due, specs, err = r.beat(ctx)
	}
	if err == nil && due {
		specs, err = r.claim(ctx, bury)
	}
	if err != nil {
		return nil, r.catalog.explain(doing, err)
	}
	fault.At(fault.OwnerAfterHeartbeat)
	return specs, nil
}

// beat is the short heartbeat. due says that the long one must follow, as it
// must for a relay that owns nothing.
func (r *Registry) beat(ctx context.Context) (due bool, specs []pipeline.Spec, err error) {
	err = r.catalog.heart.do(ctx, func() *pgx.Batch {
		batch := &pgx.Batch{}
		batch.Queue(relayBeatSQL, r.catalog.relay.ID).Query(func(rows pgx.Rows) (err error) {
			due = true
			specs, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (s pipeline.Spec, err error) {
				err = row.Scan(append([]any{&due}, specFields(&s)...)...)
				return s, err
			})
			return err
		})
		return batch
	}, relayBeatSQL)
	return due, specs, err
}

// claim is the long heartbeat.
func (r *Registry) claim(ctx context.Context, bury bool) (specs []pipeline.Spec, err error) {
	// A batch is one transaction and one round trip.
	err = r.catalog.heart.do(ctx, func() *pgx.Batch {
		relay, batch := r.catalog.relay, &pgx.Batch{}
		batch.Queue(relayHeartbeatSQL, relay.ID, relay.Host, relay.PID, relay.Version)
		if bury {
			batch.Queue(relayBurySQL)
		}
		batch.Queue(pipelineClaimSQL, relay.ID)
		batch.Queue(pipelineOwnedSQL, relay.ID).Query(func(rows pgx.Rows) (err error) {
			specs, err = pgx.CollectRows(rows, scanSpec)
			return err
		})
		return batch
	})
	return specs, err
}

func (r *Registry) mayBury() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.buried) < 10*time.Minute {
		return false
	}
	r.buried = time.Now()
	return true
}

func scanSpec(row pgx.CollectableRow) (s pipeline.Spec, err error) {
	err = row.Scan(specFields(&s)...)
	return s, err
}

func specFields(s *pipeline.Spec) []any {
	return []any{&s.ID, &s.Name, &s.Direction, &s.Endpoint, &s.EndpointID, &s.DatabaseID, &s.Config, &s.Version, &s.Fence, &s.Surplus, &s.Letters}
}

// Changed is signalled when some configuration or ownership may have changed.
func (r *Registry) Changed() <-chan struct{} { return r.catalog.Changed() }

// Report stores what pipelines say about themselves; reports on pipelines that
// another relay owns by now are dropped.
func (r *Registry) Report(ctx context.Context, reports []pipeline.Report) error {
	if len(reports) == 0 {
		return nil
	}
	fault.At(fault.OwnerBeforeReport)
	var c reportColumns
	for i := range reports {
		c.add(&reports[i])
	}
	_, err := r.catalog.exec(ctx, "report the pipelines' states", pipelineReportSQL, r.catalog.relay.ID,
		c.pipelines, c.fences, c.states, c.reasons, c.errors, c.errorAges, c.delivered, c.filtered, c.failed, c.rates, c.lags)
	return err
}

type reportColumns struct {
	pipelines, fences           []int64
	states, reasons, errors     []string
	errorAges                   []*float64 // in seconds
	delivered, filtered, failed []int64
	rates                       []float64
	lags                        []*int64 // nil where nobody knows
}

func (c *reportColumns) add(r *pipeline.Report) {
	// An age, because the relay's clock is nothing to the database: it makes
	// a time of its own of it.
	var age *float64
	if !r.LastErrorAt.IsZero() {
		seconds := time.Since(r.LastErrorAt).Seconds()
		age = &seconds
	}
	c.pipelines = append(c.pipelines, r.PipelineID)
	c.fences = append(c.fences, r.Fence)
	c.states = append(c.states, string(r.State))
	c.reasons = append(c.reasons, storable(r.Reason))
	c.errors = append(c.errors, storable(r.LastError))
	c.errorAges = append(c.errorAges, age)
	c.delivered = append(c.delivered, r.Delivered)
	c.filtered = append(c.filtered, r.Filtered)
	c.failed = append(c.failed, r.Failed)
	c.rates = append(c.rates, r.RatePerSecond)
	var lag *int64
	if r.LagKnown {
		lag = &r.Lag
	}
	c.lags = append(c.lags, lag)
}

// Release gives up one pipeline after it has stopped; others take it at once.
func (r *Registry) Release(ctx context.Context, pipelineID, fence int64) error {
	fault.At(fault.OwnerBeforeRelease)
	_, err := r.catalog.exec(ctx, "release the pipeline", pipelineReleaseSQL, pipelineID, r.catalog.relay.ID, fence)
	fault.At(fault.OwnerAfterRelease)
	return err
}

// Leave gives up everything; the relay is going. The heartbeats have ended, and
// others wait for it: it does not stand behind what keeps the pool busy.
func (r *Registry) Leave(ctx context.Context) error {
	fault.At(fault.ShutdownBeforeLeave)
	err := r.catalog.heart.do(ctx, func() *pgx.Batch {
		batch := &pgx.Batch{}
		batch.Queue(relayLeaveSQL, r.catalog.relay.ID)
		return batch
	})
	fault.At(fault.ShutdownAfterLeave)
	return r.catalog.explain("leave", err)
}
