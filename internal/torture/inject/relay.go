package inject

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/run"
	"github.com/pg-tide/pg-tide/internal/torture/plan"
	"github.com/pg-tide/pg-tide/internal/torture/proxy"
	"github.com/pg-tide/pg-tide/internal/torture/world"
)

// Takeover is how long a service was without an owner after its relay was
// killed, frozen or told to stop.
type Takeover struct {
	Kind    plan.Kind `json:"kind"`
	Service string    `json:"service"`
	// Owned is the time until another relay owned the pipeline, Saved until
	// that one first saved a position; 0 when it did not, or saves none.
	Owned time.Duration `json:"owned_ns"`
	Saved time.Duration `json:"saved_ns"`
	// Disturbed says that other faults were on, so that the time proves nothing.
	Disturbed bool `json:"disturbed"`
}

// Drain is how long a relay took to end after SIGTERM.
type Drain struct {
	Relay     string        `json:"relay"`
	Took      time.Duration `json:"took_ns"`
	Disturbed bool          `json:"disturbed"`
}

const (
	askTimeout = 3 * time.Second
	// takeoverPatience is how long a take-over is watched for.
	takeoverPatience = 40 * time.Second
	// drainPatience is how long SIGTERM is given before SIGKILL.
	drainPatience = 15 * time.Second
)

// target chooses a relay of the fault's service: its owner where that is
// wanted and can be found out. The ownership is nil when it is not the owner's.
func (i *Injector) target(ctx context.Context, a *Applied) (*world.Relay, *world.Ownership) {
	chosen := a.service.Relays[a.Relay%len(a.service.Relays)]
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var owner world.Ownership
	err := a.service.Do(ctx, func(conn *pgx.Conn) (err error) {
		owner, err = a.service.Owner(ctx, conn)
		return err
	})
	if err != nil {
		return chosen, nil
	}
	for _, r := range a.service.Relays {
		if pid := r.PID(); pid != 0 && pid == owner.PID && (a.Owner || r == chosen) {
			return r, &owner
		}
	}
	return chosen, nil
}

func (i *Injector) killRelay(intake, work context.Context, a *Applied) error {
	r, owner := i.target(work, a)
	r.Busy.Lock()
	defer r.Busy.Unlock()
	i.begins(a, r.Name)
	r.Process().Kill()
	i.watch(work, a, owner)
	Sleep(intake, a.For)
	return r.Start(work)
}

func (i *Injector) freezeRelay(intake, work context.Context, a *Applied) error {
	r, owner := i.target(work, a)
	r.Busy.Lock()
	defer r.Busy.Unlock()
	i.begins(a, r.Name)
	if err := r.Process().Freeze(); err != nil {
		return err
	}
	if a.For > Recovery {
		i.watch(work, a, owner)
	}
	Sleep(intake, a.For)
	return r.Process().Thaw()
}

func (i *Injector) stopRelay(intake, work context.Context, a *Applied) error {
	r, owner := i.target(work, a)
	r.Busy.Lock()
	defer r.Busy.Unlock()
	i.begins(a, r.Name)
	err := r.Process().Terminate(drainPatience)
	drain := Drain{Relay: r.Name, Took: time.Since(a.Began)}
	drain.Disturbed = i.disturbed(a, a.Began, time.Now())
	i.mu.Lock()
	i.drains = append(i.drains, drain)
	i.mu.Unlock()
	i.watch(work, a, owner)
	Sleep(intake, a.For)
	if startErr := r.Start(work); startErr != nil {
		return startErr
	}
	return err
}

// watch measures a take-over beside what else goes on. The watcher ends when
// another relay has saved, or its patience.
func (i *Injector) watch(work context.Context, a *Applied, before *world.Ownership) {
	if before == nil {
		return
	}
	killed := time.Now()
	t := &Takeover{Kind: a.Kind, Service: a.service.Name}
	task := run.Start(work, func(_, ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, takeoverPatience)
		defer cancel()
		i.follow(ctx, a.service, *before, killed, t)
		t.Disturbed = i.disturbed(a, killed, time.Now())
		return nil
	})
	i.mu.Lock()
	defer i.mu.Unlock()
	i.takeovers = append(i.takeovers, t)
	i.watchers = append(i.watchers, task)
}

// follow polls who owns the service's pipeline. The times are the server's,
// whose clock is ours.
func (i *Injector) follow(ctx context.Context, s *world.Service, before world.Ownership, killed time.Time, t *Takeover) {
	const every = 100 * time.Millisecond
	for Sleep(ctx, every) {
		var now world.Ownership
		err := s.Do(ctx, func(conn *pgx.Conn) (err error) {
			now, err = s.Owner(ctx, conn)
			return err
		})
		if err != nil || now.RelayID == "" || now.RelayID == before.RelayID && now.Since.Equal(before.Since) {
			continue
		}
		t.Owned = max(now.Since.Sub(killed), time.Millisecond)
		if now.Saved != nil {
			t.Saved = max(now.Saved.Sub(killed), time.Millisecond)
		}
		if s.Outbox == "" || now.Saved != nil {
			return
		}
	}
}

// disturbNetwork cuts, slows or silences a relay's connections.
func (i *Injector) disturbNetwork(intake context.Context, a *Applied) error {
	r := a.service.Relays[a.Relay%len(a.service.Relays)]
	if a.Owner {
		r, _ = i.target(intake, a)
	}
	end, busy := r.Broker, &r.BrokerBusy
	switch a.Kind {
	case plan.DatabaseCut, plan.DatabaseDelay, plan.DatabaseStall, plan.DatabaseHalf:
		end, busy = r.Database, &r.DatabaseBusy
	}
	state := proxy.State{}
	switch a.Kind {
	case plan.BrokerCut, plan.DatabaseCut:
		state.Cut = true
	case plan.BrokerSilent, plan.DatabaseStall:
		state.Silent = true
	case plan.BrokerHalf, plan.DatabaseHalf:
		state.HalfOpen = true
	default:
		state.Delay = time.Duration(a.Amount%150+5) * time.Millisecond
	}
	busy.Lock()
	defer busy.Unlock()
	i.begins(a, r.Name)
	end.Set(state)
	Sleep(intake, a.For)
	end.Set(proxy.State{})
	return nil
}

// jumpClock puts a relay's wall clock hours forward or back, and later right again.
func (i *Injector) jumpClock(intake context.Context, a *Applied) error {
	r, _ := i.target(intake, a)
	by := time.Duration(1+a.Amount%12) * time.Hour
	if a.Amount/12%2 > 0 {
		by = -by
	}
	r.ClockBusy.Lock()
	defer r.ClockBusy.Unlock()
	i.begins(a, fmt.Sprintf("%s by %s", r.Name, by))
	if err := r.SetClock(by); err != nil {
		return err
	}
	Sleep(intake, a.For)
	return r.SetClock(0)
}
