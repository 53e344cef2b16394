// Package run starts goroutines and waits for them: tasks that stop softly
// first and hard later, groups with a start order, and sets that end together.
// It refuses to decide what the work is, or whether to try it again.
package run

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
)

// ErrStopped is the cause of contexts that were cancelled because somebody
// stopped the work, and the error of a Start after Stop.
var ErrStopped = errors.New("stopped")

// PanicError is a panic turned into an error, so that the trouble of one
// goroutine does not end the process.
type PanicError struct {
	Value any
	Stack []byte
}

// Error says what the panic said; the stack is kept apart for the log.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Protect calls work and turns a panic into a *PanicError.
func Protect(work func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &PanicError{Value: value, Stack: debug.Stack()}
		}
	}()
	return work()
}

// Work is what a task does. It takes no new work once intake is done,
// finishes what it has, and drops everything once work is done. Intake is
// derived from work, so the end of work ends both.
type Work func(intake, work context.Context) error

// Task is one goroutine that can be stopped in two steps.
type Task struct {
	stopIntake context.CancelCauseFunc
	stopWork   context.CancelCauseFunc
	done       chan struct{}
	err        error
}

// Start runs work in a goroutine of its own. The end of ctx is a hard stop.
func Start(ctx context.Context, work Work) *Task {
	workCtx, stopWork := context.WithCancelCause(ctx)
	intakeCtx, stopIntake := context.WithCancelCause(workCtx)
	t := &Task{stopIntake: stopIntake, stopWork: stopWork, done: make(chan struct{})}
	go func() {
		defer close(t.done)
		// cancelled last, so that a finished task leaves nothing in ctx
		defer stopWork(ErrStopped)
		t.err = Protect(func() error { return work(intakeCtx, workCtx) })
	}()
	return t
}

// Drain asks the task to take nothing new and to finish. It does not wait.
func (t *Task) Drain() { t.stopIntake(ErrStopped) }

// Cancel asks the task to drop everything, and says why. It does not wait.
func (t *Task) Cancel(cause error) { t.stopWork(cause) }

// Done is closed when the task has ended.
func (t *Task) Done() <-chan struct{} { return t.done }

// Wait waits for the task's end and returns its error.
func (t *Task) Wait() error {
	<-t.done
	return t.err
}

// Stop drains the task, cancels it when ctx ends before it does, and waits in
// either case. It may be called any number of times, by anybody.
func (t *Task) Stop(ctx context.Context) error {
	t.Drain()
	select {
	case <-t.done:
	case <-ctx.Done():
		t.Cancel(ErrStopped)
	}
	return t.Wait()
}

// Together runs all of work until the first error, which ends the context of
// the others and is returned once all have ended. A panic counts as an error.
func Together(ctx context.Context, work ...func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		wait  sync.WaitGroup
		once  sync.Once
		first error
	)
	for _, f := range work {
		wait.Go(func() {
			if err := Protect(func() error { return f(ctx) }); err != nil {
				once.Do(func() {
					first = err
					cancel(err)
				})
			}
		})
	}
	wait.Wait()
	return first
}
