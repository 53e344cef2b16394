package run

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Service is one member of a Group.
type Service struct {
	// Name is used in errors.
	Name string
	// Run works until it is stopped, as Work does. It calls started once it is
	// up; the next service starts only then. A service that returns before that
	// has failed to start, even without an error.
	Run func(intake, work context.Context, started func()) error
}

// Group starts services in order and stops them in the opposite one.
type Group struct {
	halt    chan struct{} // closed by the first Stop
	settled chan struct{} // closed when Start has returned
	ended   chan struct{} // closed when the first service has ended

	mu       sync.Mutex
	begun    bool
	stopped  bool
	services []Service
	tasks    []*Task
}

// NewGroup returns a group of services, in the order in which they start.
func NewGroup(services ...Service) *Group {
	return &Group{
		halt:     make(chan struct{}),
		settled:  make(chan struct{}),
		ended:    make(chan struct{}),
		services: services,
	}
}

// Start starts the services one after another and returns when all are up. If
// one fails, those before it are stopped and its error is returned. The end of
// ctx is a hard stop of all. A group starts once, and not after Stop.
func (g *Group) Start(ctx context.Context) error {
	g.mu.Lock()
	if g.begun || g.stopped {
		g.mu.Unlock()
		return fmt.Errorf("start: %w", ErrStopped)
	}
	g.begun = true
	g.mu.Unlock()
	defer close(g.settled)

	var once sync.Once
	for _, service := range g.services {
		if err := g.launch(ctx, service, &once); err != nil {
			if errors.Is(err, ErrStopped) {
				return err // Stop waits for this return and then stops what runs
			}
			return errors.Join(err, g.stopAll(ctx))
		}
	}
	return nil
}

func (g *Group) launch(ctx context.Context, service Service, once *sync.Once) error {
	up := make(chan struct{})
	task := Start(ctx, func(intake, work context.Context) error {
		defer once.Do(func() { close(g.ended) })
		return service.Run(intake, work, sync.OnceFunc(func() { close(up) }))
	})
	select {
	case <-up:
	case <-g.halt:
		g.add(task)
		return fmt.Errorf("start %s: %w", service.Name, ErrStopped)
	case <-task.Done():
		if err := task.Wait(); err != nil {
			return fmt.Errorf("start %s: %w", service.Name, err)
		}
		return fmt.Errorf("start %s: it ended before it was up", service.Name)
	}
	g.add(task)
	return nil
}

func (g *Group) add(task *Task) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tasks = append(g.tasks, task)
}

// Ended is closed when the first service has ended, for whatever reason.
func (g *Group) Ended() <-chan struct{} { return g.ended }

// Stop stops the services in the opposite order of their start: each is
// drained, and cancelled when ctx ends first. It waits for all and returns
// their errors. It may be called twice, by several, during Start, and before
// it, which then refuses.
func (g *Group) Stop(ctx context.Context) error {
	g.mu.Lock()
	if !g.stopped {
		g.stopped = true
		close(g.halt)
	}
	begun := g.begun
	g.mu.Unlock()
	if begun {
		<-g.settled
	}
	return g.stopAll(ctx)
}

func (g *Group) stopAll(ctx context.Context) error {
	g.mu.Lock()
	tasks := g.tasks
	g.mu.Unlock()
	var all []error
	for i := len(tasks) - 1; i >= 0; i-- {
		if err := tasks[i].Stop(ctx); err != nil && !errors.Is(err, ErrStopped) {
			all = append(all, fmt.Errorf("stop %s: %w", g.services[i].Name, err))
		}
	}
	return errors.Join(all...)
}
