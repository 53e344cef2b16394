package inject

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/torture/proxy"
	"github.com/pg-tide/pg-tide/internal/torture/traffic"
	"github.com/pg-tide/pg-tide/internal/torture/world"
)

// hastyFor is how long publishers commit without waiting before a crash.
const hastyFor = 2 * time.Second

// lateAnswer is how late the broker's answers are meanwhile.
const lateAnswer = 400 * time.Millisecond

func (i *Injector) crashPostgres(intake, work context.Context, a *Applied) error {
	c := a.service.Cluster
	c.Busy.Lock()
	defer c.Busy.Unlock()
	if a.Amount%3 > 0 {
		// Commits that nothing has flushed yet are what a crash takes back.
		defer i.leaveUnflushed(intake, work, c)()
	}
	i.begins(a, "PostgreSQL "+c.Name)
	if err := c.Server.Crash(work); err != nil {
		return err
	}
	Sleep(intake, a.For)
	return c.Server.Start(work)
}

// leaveUnflushed lets nobody on a server flush its log for a moment, while
// publishers go on: they do not wait for it, inboxes there get nothing, and
// the broker's answers come so late that no position is saved right away. What
// was read and sent by then is what a crash takes back, unless the relay
// itself has flushed it. The returned function undoes it.
func (i *Injector) leaveUnflushed(intake, work context.Context, c *world.Cluster) (undo func()) {
	var slowed []*world.Relay
	var paused []*world.Service
	c.Hasty.Store(true)
	for _, s := range i.World.Services {
		switch {
		case s.Cluster != c:
		case s.Inbox != "":
			if i.switchPipeline(work, s, "pause") == nil {
				paused = append(paused, s)
			}
		default:
			for _, r := range s.Relays {
				if r.BrokerBusy.TryLock() {
					r.Broker.Set(proxy.State{Late: lateAnswer})
					slowed = append(slowed, r)
				}
			}
		}
	}
	Sleep(intake, hastyFor)
	return func() {
		c.Hasty.Store(false)
		for _, r := range slowed {
			r.Broker.Set(proxy.State{})
			r.BrokerBusy.Unlock()
		}
		for _, s := range paused {
			if err := Persist(work, func() error { return i.switchPipeline(work, s, "resume") }); err != nil {
				i.Say("a pipeline stays paused: " + err.Error())
			}
		}
	}
}

// switchPipeline pauses or resumes a service's pipeline.
func (i *Injector) switchPipeline(work context.Context, s *world.Service, how string) error {
	ctx, cancel := context.WithTimeout(work, askTimeout)
	defer cancel()
	return s.Do(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, query(how), s.Pipeline)
		return err
	})
}

// killBackends ends sessions of one sort, or half of all.
func (i *Injector) killBackends(work context.Context, a *Applied) error {
	whom := [][]string{
		{"pg-tide"}, {traffic.WorkerName}, {traffic.PublisherName},
		{"pg-tide", traffic.WorkerName, traffic.PublisherName},
	}[a.Amount%4]
	ctx, cancel := context.WithTimeout(work, askTimeout)
	defer cancel()
	return a.service.Do(ctx, func(conn *pgx.Conn) error {
		i.begins(a, fmt.Sprintf("sessions of %s in %s", whom, a.service.Name))
		_, err := conn.Exec(ctx, query("kill_backends"), whom, a.Amount%2 == 0)
		return err
	})
}

func (i *Injector) killBroker(intake, work context.Context, a *Applied) error {
	i.World.BrokerBusy.Lock()
	defer i.World.BrokerBusy.Unlock()
	i.begins(a, i.World.Bus.Name())
	i.World.Bus.Kill()
	Sleep(intake, a.For)
	return i.World.Bus.Start(work)
}

// fillDisk leaves no room under the broker, which then acknowledges nothing and does
// not say why. When there is room it is started again.
func (i *Injector) fillDisk(intake, work context.Context, a *Applied) error {
	i.World.BrokerBusy.Lock()
	defer i.World.BrokerBusy.Unlock()
	i.begins(a, i.World.Bus.Name())
	err := i.World.Disk.Fill()
	if err == nil {
		Sleep(intake, a.For)
	}
	err = errors.Join(err, i.World.Disk.Free())
	i.World.Bus.Kill()
	return errors.Join(err, i.World.Bus.Start(work))
}

// fillBroker leaves the stream no room.
func (i *Injector) fillBroker(intake, work context.Context, a *Applied) error {
	limiter, can := i.World.Bus.(world.Limiter)
	if !can {
		return errNotThere
	}
	limit := func(full bool) error {
		ctx, cancel := context.WithTimeout(work, askTimeout)
		defer cancel()
		return limiter.Limit(ctx, full)
	}
	i.World.FullBusy.Lock()
	defer i.World.FullBusy.Unlock()
	i.begins(a, "the stream")
	err := limit(true)
	if err == nil {
		Sleep(intake, a.For)
	}
	return errors.Join(err, Persist(work, func() error { return limit(false) }))
}

// lockInbox lets inserts wait.
func (i *Injector) lockInbox(intake, work context.Context, a *Applied) error {
	consumers := i.World.Consumers()
	s := consumers[a.Service%len(consumers)]
	i.mu.Lock()
	a.service = s
	i.mu.Unlock()
	return s.Do(work, func(conn *pgx.Conn) error {
		return pgx.BeginFunc(work, conn, func(tx pgx.Tx) error {
			relation := pgx.Identifier{"tide", s.Inbox + "_inbox"}.Sanitize()
			if _, err := tx.Exec(work, fmt.Sprintf(query("lock_inbox"), relation)); err != nil {
				return err
			}
			i.begins(a, s.Inbox)
			Sleep(intake, a.For)
			return nil
		})
	})
}

func (i *Injector) pausePipeline(intake, work context.Context, a *Applied) error {
	s := a.service
	i.begins(a, s.Pipeline)
	err := i.switchPipeline(work, s, "pause")
	Sleep(intake, a.For)
	return errors.Join(err, Persist(work, func() error { return i.switchPipeline(work, s, "resume") }))
}

func (i *Injector) reconfigure(work context.Context, a *Applied) error {
	ctx, cancel := context.WithTimeout(work, askTimeout)
	defer cancel()
	lanes := 1 + a.Amount%i.Lanes
	i.begins(a, fmt.Sprintf("%s to batches of %d and %d lanes", a.service.Pipeline, a.Amount, lanes))
	return a.service.Do(ctx, func(conn *pgx.Conn) error { return a.service.Configure(ctx, conn, a.Amount, lanes) })
}

// maintain does what the relay does now and then: partitions rotate.
func (i *Injector) maintain(work context.Context, a *Applied) error {
	ctx, cancel := context.WithTimeout(work, askTimeout)
	defer cancel()
	return a.service.Do(ctx, func(conn *pgx.Conn) error {
		var there bool
		if err := conn.QueryRow(ctx, query("may_maintain")).Scan(&there); err != nil {
			return err
		}
		if !there {
			return errNotThere
		}
		i.begins(a, a.service.Name)
		_, err := conn.Exec(ctx, query("maintain"))
		return err
	})
}
