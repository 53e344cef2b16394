// Package inject does to a world what a schedule says, measures how long
// others take to step in, and undoes all of it. It decides nothing: what comes
// when was drawn before, and what it means is judged after.
package inject

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/pg-tide/pg-tide/internal/run"
	"github.com/pg-tide/pg-tide/internal/torture/check"
	"github.com/pg-tide/pg-tide/internal/torture/plan"
	"github.com/pg-tide/pg-tide/internal/torture/world"
)

// Applied is a fault as it came to be.
type Applied struct {
	plan.Fault
	// Target is what was hit.
	Target string    `json:"target"`
	Began  time.Time `json:"began"`
	Ended  time.Time `json:"ended"`
	// Problem says why it could not be done.
	Problem string `json:"problem,omitempty"`

	service *world.Service
	// neighbours are the services whose databases share its server.
	neighbours []string
}

// reconnecting is how long after a fault that took no owner away a stall is
// still its own.
const reconnecting = 5 * time.Second

// Recovery is how long after a fault a stall is still its own: the lease of a
// dead owner, and reconnecting.
const Recovery = 12 * time.Second

// errNotThere means that the product has no such thing to disturb.
var errNotThere = errors.New("there is no such thing to disturb")

// Injector applies the faults of a schedule.
type Injector struct {
	World *world.World
	// Lanes is the most that a pipeline is given.
	Lanes int
	// Say is told of each fault.
	Say func(string)

	mu        sync.Mutex
	applied   []*Applied
	takeovers []*Takeover
	drains    []Drain
	tasks     []*run.Task
	watchers  []*run.Task
}

// Play applies the schedule until intake ends; what is under way then is cut
// short, healed and waited for.
func (i *Injector) Play(intake, work context.Context, schedule []plan.Fault) {
	begin := time.Now()
	for _, fault := range schedule {
		if !Sleep(intake, time.Until(begin.Add(fault.At))) {
			break
		}
		i.tasks = append(i.tasks, run.Start(work, func(_, _ context.Context) error {
			// Not the task's own context: who watches a take-over outlives it.
			i.apply(intake, work, fault)
			return nil
		}))
	}
	for _, task := range i.tasks {
		if err := task.Wait(); err != nil {
			i.Say(fmt.Sprintf("a fault ended badly: %v", err))
		}
	}
}

func (i *Injector) apply(intake, work context.Context, fault plan.Fault) {
	a := &Applied{Fault: fault, service: i.World.Services[fault.Service%len(i.World.Services)]}
	for _, s := range i.World.Services {
		if s.Cluster == a.service.Cluster {
			a.neighbours = append(a.neighbours, s.Name)
		}
	}
	i.add(a)
	err := i.do(intake, work, a)
	i.mu.Lock()
	defer i.mu.Unlock()
	a.Ended = time.Now()
	if a.Began.IsZero() {
		a.Began = a.Ended
	}
	if err != nil {
		a.Problem = err.Error()
	}
}

func (i *Injector) add(a *Applied) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.applied = append(i.applied, a)
}

// begins notes what is hit and that it begins now.
func (i *Injector) begins(a *Applied, target string) {
	i.mu.Lock()
	a.Target, a.Began = target, time.Now()
	i.mu.Unlock()
	i.Say(fmt.Sprintf("%s: %s for %s", a.Kind, target, a.For.Round(100*time.Millisecond)))
}

func (i *Injector) do(intake, work context.Context, a *Applied) error {
	switch a.Kind {
	case plan.RelayKill:
		return i.killRelay(intake, work, a)
	case plan.RelayFreeze:
		return i.freezeRelay(intake, work, a)
	case plan.RelayStop:
		return i.stopRelay(intake, work, a)
	case plan.BackendKill:
		return i.killBackends(work, a)
	case plan.PostgresCrash:
		return i.crashPostgres(intake, work, a)
	case plan.BrokerKill:
		return i.killBroker(intake, work, a)
	case plan.BrokerFull:
		return i.fillBroker(intake, work, a)
	case plan.BrokerDisk:
		return i.fillDisk(intake, work, a)
	case plan.BrokerCut, plan.BrokerDelay, plan.BrokerSilent, plan.BrokerHalf,
		plan.DatabaseCut, plan.DatabaseDelay, plan.DatabaseStall, plan.DatabaseHalf:
		return i.disturbNetwork(intake, a)
	case plan.SlowInsert:
		return i.lockInbox(intake, work, a)
	case plan.Pause:
		return i.pausePipeline(intake, work, a)
	case plan.Reconfigure:
		return i.reconfigure(work, a)
	case plan.Maintain:
		return i.maintain(work, a)
	case plan.RelayClock:
		return i.jumpClock(intake, a)
	}
	return errNotThere
}

// Windows are the times of the faults that may hold up events on their way
// through some services, each with what it takes to recover from it.
func (i *Injector) Windows(services ...string) []check.Window {
	i.mu.Lock()
	defer i.mu.Unlock()
	var all []check.Window
	for _, a := range i.applied {
		if a.Began.IsZero() || !a.concerns(services) {
			continue
		}
		to := a.Ended
		if to.IsZero() {
			to = time.Now()
		}
		all = append(all, check.Window{From: a.Began, To: to.Add(a.recovery())})
	}
	return all
}

// concerns says whether a fault may hold up one of the services. A clock that
// jumps may not: nothing that moves events goes by it.
func (a *Applied) concerns(services []string) bool {
	switch a.Kind {
	case plan.RelayClock:
		return false
	case plan.BrokerKill, plan.BrokerFull, plan.BrokerDisk:
		return true
	case plan.PostgresCrash:
		return slices.ContainsFunc(a.neighbours, func(name string) bool { return slices.Contains(services, name) })
	}
	return slices.Contains(services, a.service.Name)
}

// recovery is the lease where an owner may have been lost without a word, and
// else what reconnecting takes.
func (a *Applied) recovery() time.Duration {
	switch a.Kind {
	case plan.BrokerDelay, plan.BrokerCut, plan.SlowInsert, plan.Pause, plan.Reconfigure, plan.Maintain, plan.RelayStop:
		return reconnecting
	}
	return Recovery
}

// Count is how many faults there were so far.
func (i *Injector) Count() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.applied)
}

// Wait waits for whoever still watches a take-over.
func (i *Injector) Wait() {
	i.mu.Lock()
	watchers := i.watchers
	i.mu.Unlock()
	for _, watcher := range watchers {
		_ = watcher.Wait() // it returns no error
	}
}

// Applied lists the faults so far. It is for the end, when nothing changes.
func (i *Injector) Applied() []*Applied {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.applied
}

// Takeovers lists what was measured, once Wait has returned.
func (i *Injector) Takeovers() []Takeover {
	i.mu.Lock()
	defer i.mu.Unlock()
	all := make([]Takeover, len(i.takeovers))
	for n, t := range i.takeovers {
		all[n] = *t
	}
	return all
}

// Drains lists how long relays took to end.
func (i *Injector) Drains() []Drain {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.drains
}

// Active names the faults that are on.
func (i *Injector) Active() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	var names []string
	for _, a := range i.applied {
		if !a.Began.IsZero() && a.Ended.IsZero() {
			names = append(names, string(a.Kind))
		}
	}
	return names
}

// Hindered says whether a service's relays may have been kept from ending a
// transaction lately.
func (i *Injector) Hindered(database string) bool {
	const lately = 3 * time.Second
	return i.any(func(a *Applied) bool {
		switch a.Kind {
		case plan.RelayFreeze, plan.DatabaseCut, plan.DatabaseDelay, plan.DatabaseStall, plan.DatabaseHalf:
			return a.service.Name == database && (a.Ended.IsZero() || time.Since(a.Ended) < lately)
		}
		return false
	})
}

// disturbed says whether something else than a itself happened to its service,
// or to what all share, between from and to.
func (i *Injector) disturbed(a *Applied, from, to time.Time) bool {
	return i.any(func(other *Applied) bool {
		if other == a || other.Began.IsZero() || other.Began.After(to) {
			return false
		}
		if !other.Ended.IsZero() && other.Ended.Add(Recovery).Before(from) {
			return false
		}
		switch other.Kind {
		case plan.PostgresCrash:
			return other.service.Cluster == a.service.Cluster
		case plan.BrokerKill, plan.BrokerFull, plan.BrokerDisk:
			return true
		}
		return other.service == a.service
	})
}

func (i *Injector) any(is func(*Applied) bool) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, a := range i.applied {
		if is(a) {
			return true
		}
	}
	return false
}

// Sleep waits; it is false when ctx ended before.
func Sleep(ctx context.Context, length time.Duration) bool {
	if length <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Persist tries until it succeeds, for what must be undone.
func Persist(ctx context.Context, try func() error) error {
	const between, most = 200 * time.Millisecond, 3 * time.Minute
	deadline := time.Now().Add(most)
	for {
		err := try()
		if err == nil || time.Now().After(deadline) || !Sleep(ctx, between) {
			return err
		}
	}
}
