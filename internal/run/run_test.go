package run_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/pg-tide/pg-tide/internal/run"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errBroken = errors.New("broken")

func TestDrainedTaskFinishesItsWork(t *testing.T) {
	t.Parallel()
	finish := make(chan struct{})
	task := run.Start(t.Context(), func(intake, work context.Context) error {
		<-intake.Done()
		<-finish
		return context.Cause(work)
	})
	task.Drain()
	close(finish)
	if err := task.Wait(); err != nil {
		t.Fatalf("work was cancelled by a drain: %v", err)
	}
}

func TestTaskIsCancelledWhenItsGraceEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		task := run.Start(t.Context(), func(_, work context.Context) error {
			<-work.Done()
			return context.Cause(work)
		})
		grace, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		begun := time.Now()
		if err := task.Stop(grace); !errors.Is(err, run.ErrStopped) {
			t.Fatalf("got %v", err)
		}
		if took := time.Since(begun); took != 5*time.Second {
			t.Fatalf("stopped after %v", took)
		}
	})
}

func TestPanicOfATaskIsItsError(t *testing.T) {
	t.Parallel()
	task := run.Start(t.Context(), func(_, _ context.Context) error {
		var nothing []int
		_ = nothing[len(t.Name())]
		return nil
	})
	var panicked *run.PanicError
	if err := task.Wait(); !errors.As(err, &panicked) || len(panicked.Stack) == 0 {
		t.Fatalf("got %v", err)
	}
}

func TestFirstErrorEndsTheOthers(t *testing.T) {
	t.Parallel()
	err := run.Together(t.Context(),
		func(context.Context) error { return errBroken },
		func(ctx context.Context) error {
			<-ctx.Done()
			return errors.New("an echo of the first")
		},
	)
	if !errors.Is(err, errBroken) {
		t.Fatalf("got %v", err)
	}
}

// service records its life in log.
func service(name string, log *[]string, mu *sync.Mutex, failure error) run.Service {
	note := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		*log = append(*log, what+" "+name)
	}
	return run.Service{Name: name, Run: func(intake, _ context.Context, started func()) error {
		note("start")
		if failure != nil {
			return failure
		}
		started()
		<-intake.Done()
		note("stop")
		return nil
	}}
}

func TestGroupStartsInOrderAndStopsInTheOppositeOne(t *testing.T) {
	t.Parallel()
	var log []string
	var mu sync.Mutex
	g := run.NewGroup(service("a", &log, &mu, nil), service("b", &log, &mu, nil))
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := g.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"start a", "start b", "stop b", "stop a"}
	for i, entry := range want {
		if i >= len(log) || log[i] != entry {
			t.Fatalf("got %q, want %q", log, want)
		}
	}
}

func TestStartReportsTheErrorAndStopsWhatRan(t *testing.T) {
	t.Parallel()
	var log []string
	var mu sync.Mutex
	g := run.NewGroup(service("a", &log, &mu, nil), service("b", &log, &mu, errBroken), service("c", &log, &mu, nil))
	if err := g.Start(t.Context()); !errors.Is(err, errBroken) {
		t.Fatalf("got %v", err)
	}
	if len(log) != 3 || log[2] != "stop a" {
		t.Fatalf("got %q", log)
	}
	if err := g.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestGroupStoppedBeforeStartRefusesToStart(t *testing.T) {
	t.Parallel()
	g := run.NewGroup()
	if err := g.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := g.Start(t.Context()); !errors.Is(err, run.ErrStopped) {
		t.Fatalf("got %v", err)
	}
}

func TestStopDuringAStartThatHangsEndsBoth(t *testing.T) {
	t.Parallel()
	begun := make(chan struct{})
	g := run.NewGroup(run.Service{Name: "slow", Run: func(intake, _ context.Context, _ func()) error {
		close(begun)
		<-intake.Done()
		return nil
	}})
	var wait sync.WaitGroup
	wait.Go(func() {
		if err := g.Start(t.Context()); !errors.Is(err, run.ErrStopped) {
			t.Errorf("start: %v", err)
		}
	})
	<-begun
	if err := g.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	wait.Wait()
}

func TestGroupSurvivesStartsAndStopsFromTenGoroutines(t *testing.T) {
	t.Parallel()
	for range 50 {
		var log []string
		var mu sync.Mutex
		g := run.NewGroup(service("a", &log, &mu, nil), service("b", &log, &mu, nil))
		var wait sync.WaitGroup
		for range 10 {
			wait.Go(func() {
				_ = g.Start(t.Context()) // one succeeds at most; the others are refused
				_ = g.Stop(t.Context())
			})
		}
		wait.Wait()
		starts := 0
		for _, entry := range log {
			if entry == "start a" {
				starts++
			}
		}
		if starts > 1 {
			t.Fatalf("started %d times", starts)
		}
	}
}
