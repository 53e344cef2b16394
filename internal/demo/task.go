package demo

import (
	"context"
	"errors"
	"sync"
)

// task is something that runs until it is told to stop.
type task struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

// begin runs work until stop, or until ctx ends. When work ends by itself,
// which is wrong, failed is told.
func begin(ctx context.Context, work func(context.Context) error, failed func(error)) *task {
	ctx, cancel := context.WithCancel(ctx)
	t := &task{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(t.done)
		err := work(ctx)
		if ctx.Err() != nil {
			return // whatever it says now comes from being stopped
		}
		if err == nil {
			err = errors.New("it ended by itself")
		}
		t.err = err
		failed(err)
	}()
	return t
}

// stop ends the work and waits for it. It may be called twice, or on nil.
func (t *task) stop() {
	if t == nil {
		return
	}
	t.cancel()
	<-t.done
}

// together runs all of it at once and returns the first error.
func together(all ...func() error) error {
	errs := make([]error, len(all))
	var wait sync.WaitGroup
	for i, one := range all {
		wait.Go(func() { errs[i] = one() })
	}
	wait.Wait()
	return errors.Join(errs...)
}
