// Package upkeep does what has to be done from time to time in the database:
// it lets outboxes rotate and be emptied, cleans inboxes, and says which grow too large. What
// may be removed the schema decides; the package refuses to know better.
package upkeep

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/pg-tide/pg-tide/internal/catalog"
	"github.com/pg-tide/pg-tide/internal/retry"
)

const (
	// mostSteps bounds a round: what is left is done in the next one.
	mostSteps = 200
	// longestPause is between two rounds, and what an error waits for.
	longestPause = time.Minute
	// warnEvery is how often the same trouble is said.
	warnEvery = time.Minute
	// longWait is how long cleaning an inbox may wait for a lock unsaid.
	longWait = 10 * time.Minute
)

// Store is what upkeep needs of the catalog.
type Store interface {
	// Maintain takes one step, in a short transaction, and says what it did;
	// nothing when there is nothing to do or another relay is at it.
	Maintain(ctx context.Context) ([]catalog.Step, error)
	// MaintainInboxes takes one step of cleaning an inbox.
	MaintainInboxes(ctx context.Context) (catalog.InboxStep, error)
	// Outboxes returns how large the outboxes are and what holds them back.
	Outboxes(ctx context.Context) ([]catalog.OutboxSize, error)
}

// Keeper keeps the tables of one database small.
type Keeper struct {
	store Store
	clock retry.Clock
	log   *slog.Logger

	mu   sync.Mutex
	seen []catalog.OutboxSize
	said map[string]time.Time
}

// New makes a keeper; Run sets it to work.
func New(store Store, clock retry.Clock, log *slog.Logger) *Keeper {
	return &Keeper{store: store, clock: clock, log: log, said: map[string]time.Time{}}
}

// Run works in rounds until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	for {
		pause := k.runOnce(ctx)
		if retry.Sleep(ctx, k.clock, pause) != nil {
			return
		}
	}
}

// Outboxes returns what the last round saw, from memory.
func (k *Keeper) Outboxes() []catalog.OutboxSize {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.seen
}

// runOnce does one round and returns how long to pause before the next.
func (k *Keeper) runOnce(ctx context.Context) (pause time.Duration) {
	if err := k.maintain(ctx); err != nil {
		k.warn(ctx, "maintain", "maintaining the database", "error", err)
	}
	if err := k.maintainInboxes(ctx); err != nil {
		k.warn(ctx, "maintain inboxes", "cleaning the inboxes", "error", err)
	}
	outboxes, err := k.store.Outboxes(ctx)
	if err != nil {
		k.warn(ctx, "sizes", "reading the outboxes' sizes", "error", err)
		return longestPause
	}
	k.mu.Lock()
	k.seen = outboxes
	k.mu.Unlock()
	pause = longestPause
	for _, o := range outboxes {
		pause = min(pause, o.Retention/20)
		if o.Bytes > o.WarnBytes {
			k.warn(ctx, "large "+o.Name, "the outbox is larger than its limit", sizeAttributes(o)...)
		}
	}
	return max(pause, time.Second)
}

// maintain takes steps until there is none left, each in a transaction of its own.
func (k *Keeper) maintain(ctx context.Context) error {
	for range mostSteps {
		steps, err := k.store.Maintain(ctx)
		if err != nil {
			return err
		}
		progress := false
		for _, s := range steps {
			if s.Action == catalog.StepFailed {
				k.warn(ctx, "step "+s.Outbox, "maintaining an outbox", "outbox", s.Outbox, "partition", s.Part, "error", s.Detail)
				continue
			}
			progress = true
			k.log.Debug("maintained an outbox", "outbox", s.Outbox, "action", s.Action, "partition", s.Part)
		}
		if !progress {
			return nil
		}
	}
	return nil
}

// maintainInboxes takes steps until there is none left, each in a transaction of its own.
func (k *Keeper) maintainInboxes(ctx context.Context) error {
	for range mostSteps {
		step, err := k.store.MaintainInboxes(ctx)
		if err != nil {
			return err
		}
		if step.Waited > longWait {
			k.warn(ctx, "inbox "+step.Waiting, "cleaning an inbox waits for transactions that are open",
				"inbox", step.Waiting, "waited", step.Waited.Round(time.Second))
		}
		if step.Inbox == "" {
			return nil
		}
		k.log.Debug("maintained an inbox", "inbox", step.Inbox, "action", step.Action)
	}
	return nil
}

// warn says something, unless it did so a short while ago or is stopping.
func (k *Keeper) warn(ctx context.Context, what, text string, attributes ...any) {
	now := k.clock.Now()
	if last, ok := k.said[what]; ctx.Err() != nil || ok && now.Sub(last) < warnEvery {
		return
	}
	k.said[what] = now
	k.log.Warn(text, attributes...)
}

func sizeAttributes(o catalog.OutboxSize) []any {
	attributes := []any{"outbox", o.Name, "bytes", o.Bytes, "warn_bytes", o.WarnBytes}
	if len(o.HeldBy) > 0 {
		attributes = append(attributes, "held_back_by", strings.Join(o.HeldBy, ", "), "held_since", o.HeldSince.UTC().Format(time.RFC3339))
	}
	return attributes
}
