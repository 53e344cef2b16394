package torture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/pg-tide/pg-tide/internal/run"
	"github.com/pg-tide/pg-tide/internal/torture/collect"
	"github.com/pg-tide/pg-tide/internal/torture/inject"
	"github.com/pg-tide/pg-tide/internal/torture/plan"
	"github.com/pg-tide/pg-tide/internal/torture/sample"
	"github.com/pg-tide/pg-tide/internal/torture/traffic"
	"github.com/pg-tide/pg-tide/internal/torture/world"
)

// session is one torture.
type session struct {
	settled
	world    *world.World
	commits  *traffic.Commits
	injector *inject.Injector
	watch    *sample.Watch
	screen   *screen
	report   *Report

	publishers, workers, strangers []*run.Task
}

const (
	// readyPatience bounds the wait for the relays at the begin.
	readyPatience = 60 * time.Second
	// stopPatience bounds the wait for writers and workers at the end.
	stopPatience = 40 * time.Second
	// quietFor is how long nothing may move for the bus to be at rest.
	quietFor = 2 * time.Second
	workers  = 3
)

// errStopped is the end by the user's wish, before the judgement.
var errStopped = errors.New("the torture was stopped before its end; everything it had started is gone")

// Run tortures a bus and reports what became of it. The error says that the
// torture itself could not be done; broken promises are in the report.
// Everything that it started is gone when it returns, also when ctx ended early.
func Run(ctx context.Context, o Options) (Report, error) {
	settled, err := o.settle()
	if err != nil {
		return Report{}, err
	}
	s := &session{settled: settled, commits: traffic.NewCommits()}
	s.screen = newScreen(s.Out, s.Live)
	s.report = newReport(s.settled)
	s.screen.say(s.heading())
	s.world, err = world.Build(ctx, world.Options{
		Program: s.Program, Environment: s.Environment, Major: s.major, Fetched: s.fetched, BinDir: s.binDir,
		Dir: s.Dir, Relays: relaysEach, Lanes: s.Lanes, Pipelines: s.Pipelines, Retention: s.Retention,
		OwnDisk: slices.Contains(s.kinds, plan.BrokerDisk), Bus: s.Bus, Notices: s.Out,
	})
	if err == nil {
		err = s.run(ctx)
	}
	if err != nil && ctx.Err() != nil {
		err = errStopped // whatever it says comes from being stopped
	}
	err = errors.Join(err, s.close(ctx))
	s.screen.done()
	s.keep(err)
	return *s.report, err
}

func (s *session) heading() string {
	text := fmt.Sprintf("pg_tide torture: seed %d, %s of traffic, %d publishers, %d events a second, a fault every %s: %s",
		s.Seed, s.For, s.Writers, s.Rate, s.Every, plan.Names(s.kinds))
	if len(s.kinds) == 0 {
		text += "none"
	}
	for _, kind := range plan.Scheduled() {
		if why := s.leftOut[kind]; why != "" {
			text += fmt.Sprintf("\nleft out: %s (%s)", kind, why)
		}
	}
	return text + "\nartefacts in " + s.Dir
}

// run goes through the acts: traffic with faults, rest, judgement.
func (s *session) run(ctx context.Context) error {
	s.report.Postgres = s.world.Clusters[0].Server.Version
	schedule := plan.Draw(plan.Options{Seed: s.Seed, For: s.For, Kinds: s.kinds, Every: s.Every,
		Services: len(s.world.Services), Relays: relaysEach})
	if err := os.WriteFile(filepath.Join(s.Dir, "schedule.txt"), []byte(plan.Text(schedule)), 0o644); err != nil {
		return fmt.Errorf("write the schedule: %w", err)
	}
	s.injector = &inject.Injector{World: s.world, Lanes: s.Lanes, Say: s.screen.say}
	s.watch = &sample.Watch{World: s.world, Excused: s.injector.Hindered}
	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	watcher := run.Start(watching, func(_, work context.Context) error { s.watch.Run(work); return nil })
	defer func() { stopWatching(); _ = watcher.Wait() }() // it returns no error
	if err := s.awaitReady(ctx); err != nil {
		return err
	}
	s.report.Began = time.Now()
	if err := s.play(ctx, schedule); err != nil {
		return err
	}
	if err := s.rest(ctx); err != nil {
		return err
	}
	return s.judge(ctx)
}

// awaitReady waits until every relay serves, and notes what they use at rest.
func (s *session) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyPatience, fmt.Errorf("the relays were not ready after %s; their logs are in %s", readyPatience, s.Dir))
	defer cancel()
	for {
		uses, err := s.uses(ctx)
		if err == nil {
			s.report.Before = uses
			return nil
		}
		if !inject.Sleep(ctx, 100*time.Millisecond) {
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

func (s *session) uses(ctx context.Context) (map[string]sample.Use, error) {
	uses := map[string]sample.Use{}
	for _, r := range s.world.Relays() {
		use, err := sample.Ask(ctx, r)
		if err != nil {
			return nil, err
		}
		uses[r.Name] = use
	}
	return uses, nil
}

// play runs traffic and faults for as long as asked, and then brings
// everything back. The workers go on.
func (s *session) play(ctx context.Context, schedule []plan.Fault) error {
	s.startTraffic(ctx)
	playing, stop := context.WithTimeout(ctx, s.For)
	defer stop()
	progress := run.Start(playing, func(_, work context.Context) error { s.progress(work); return nil })
	s.injector.Play(playing, ctx, schedule)
	<-playing.Done()
	_ = progress.Wait() // it returns no error
	s.screen.done()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s.screen.say("traffic ends; everything is brought back")
	if err := inject.Persist(ctx, func() error { return s.world.Heal(ctx) }); err != nil {
		return fmt.Errorf("bring everything back: %w", err)
	}
	s.stopTasks(ctx, s.publishers)
	s.stopTasks(ctx, s.strangers)
	for _, p := range s.world.Publishers() {
		if p.Cluster.Prepares {
			if err := traffic.CommitPrepared(ctx, p.DSN()); err != nil {
				return err
			}
		}
	}
	s.report.Traffic = time.Since(s.report.Began)
	return nil
}

// startTraffic starts publishers, workers, and transactions that stay open.
func (s *session) startTraffic(ctx context.Context) {
	on := func(kind plan.Kind) bool { return slices.Contains(s.kinds, kind) }
	publishers, poison := s.world.Publishers(), ""
	if on(plan.Poison) {
		poison = world.Poison
	}
	for n := range s.Writers {
		p := publishers[n%len(publishers)]
		publisher := traffic.Publisher{
			DSN: p.DSN(), Outbox: p.Outbox, Types: p.Types, Prepares: p.Cluster.Prepares,
			Poison: poison, Asynchronous: on(plan.AsyncCommit), Hasty: &p.Cluster.Hasty, Rate: float64(s.Rate) / float64(s.Writers), Commits: s.commits,
		}
		s.publishers = append(s.publishers, run.Start(ctx, func(intake, work context.Context) error {
			return publisher.Write(intake, work, s.Seed, n)
		}))
	}
	for _, c := range s.world.Consumers() {
		consumer := traffic.Consumer{DSN: c.DSN(), Inbox: c.Inbox, Workers: workers, Hasty: &c.Cluster.Hasty, Crashes: on(plan.WorkerCrash)}
		for n := range workers {
			s.workers = append(s.workers, run.Start(ctx, func(intake, work context.Context) error {
				return consumer.Work(intake, work, s.Seed, n)
			}))
		}
	}
	for _, p := range publishers {
		s.workers = append(s.workers, run.Start(ctx, func(intake, work context.Context) error {
			return traffic.Clerk(intake, work, p.DSN(), p.Pipeline)
		}))
	}
	if on(plan.OldTransaction) {
		for _, p := range publishers {
			s.hold(ctx, traffic.Publisher{DSN: p.DSN(), Outbox: p.Outbox, Types: p.Types, Commits: s.commits})
			// One of a stranger, in another database of the server.
			s.hold(ctx, traffic.Publisher{DSN: p.Cluster.Server.DSN("postgres")})
		}
	}
}

func (s *session) hold(ctx context.Context, publisher traffic.Publisher) {
	s.strangers = append(s.strangers, run.Start(ctx, publisher.Hold))
}

// stopTasks lets each finish what it is at.
func (s *session) stopTasks(ctx context.Context, tasks []*run.Task) {
	for _, task := range tasks {
		task.Drain()
	}
	ctx, cancel := context.WithTimeout(ctx, stopPatience)
	defer cancel()
	for _, task := range tasks {
		if err := task.Stop(ctx); err != nil {
			s.screen.say(fmt.Sprintf("a session ended badly: %v", err))
		}
	}
}

// rest waits until everything has arrived and nothing moves, or nothing has
// moved for too long.
func (s *session) rest(ctx context.Context) error {
	const every = 500 * time.Millisecond
	begin := time.Now()
	var last collect.Counts
	moved := time.Now()
	for {
		counts, err := collect.Count(ctx, s.world)
		if err != nil {
			return err
		}
		if !reflect.DeepEqual(counts, last) {
			last, moved = counts, time.Now()
		}
		s.screen.show(fmt.Sprintf("waiting for the rest: %s", counts))
		still := time.Since(moved)
		if still > s.Patience || counts.Done() && still > quietFor {
			s.report.Rest = time.Since(begin)
			s.stopTasks(ctx, s.workers)
			return nil
		}
		if !inject.Sleep(ctx, every) {
			return context.Cause(ctx)
		}
	}
}

// progress shows how far things are while there is traffic.
func (s *session) progress(ctx context.Context) {
	begin := time.Now()
	for inject.Sleep(ctx, s.screen.every()) {
		line := fmt.Sprintf("%s of %s: %d events committed, %d faults", time.Since(begin).Round(time.Second), s.For,
			s.commits.Events(), s.injector.Count())
		if active := s.injector.Active(); len(active) > 0 {
			line += ", now " + strings.Join(active, ", ")
		}
		s.screen.show(line)
	}
}

// judge reads every hop and compares.
func (s *session) judge(ctx context.Context) error {
	s.screen.say("comparing what was committed with what arrived")
	after, err := s.uses(ctx)
	if err != nil {
		return fmt.Errorf("look at the relays at the end: %w", err)
	}
	s.report.After = after
	ledger, err := collect.Ledger(ctx, s.world, s.commits)
	if err != nil {
		return err
	}
	hops, err := collect.Hops(ctx, s.world)
	if err != nil {
		return err
	}
	letters, err := collect.DeadLetters(ctx, s.world)
	if err != nil {
		return err
	}
	s.report.DeadLetters = append(s.report.DeadLetters, letters...)
	publishers := map[string]string{}
	for _, p := range s.world.Publishers() {
		publishers[p.Outbox] = p.Name
	}
	s.report.compare(ledger, hops, publishers, s.injector.Windows)
	s.injector.Wait()
	s.report.observe(s)
	s.report.conclude(ledger, hops, s.injector.Applied())
	if !s.temporary || !s.report.Clean() {
		return writeHops(s.Dir, ledger, hops)
	}
	return nil
}

// close ends everything that is left.
func (s *session) close(ctx context.Context) error {
	for _, tasks := range [][]*run.Task{s.publishers, s.strangers, s.workers} {
		for _, task := range tasks {
			task.Cancel(run.ErrStopped)
			_ = task.Wait() // whatever it says now comes from being stopped
		}
	}
	if s.injector != nil {
		s.injector.Wait()
	}
	if s.world == nil {
		return nil
	}
	return errors.Join(s.world.KeepLogs(), s.world.Close(ctx))
}

// keep writes the report, or removes what nobody needs.
func (s *session) keep(err error) {
	for _, data := range []string{"nats", "kafka-1"} {
		if removeErr := os.RemoveAll(filepath.Join(s.Dir, data)); removeErr != nil {
			s.screen.say(fmt.Sprintf("the broker's data stay behind: %v", removeErr))
		}
	}
	if s.temporary && (err == nil && s.report.Clean() || errors.Is(err, errStopped)) {
		if removeErr := os.RemoveAll(s.Dir); removeErr == nil {
			s.report.Dir = ""
			return
		}
	}
	if writeErr := s.report.write(s.Dir); writeErr != nil {
		s.screen.say(fmt.Sprintf("the report could not be written: %v", writeErr))
	}
}
