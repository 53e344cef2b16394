package target

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// Count notes when messages were settled, and tells when all were.
type Count struct {
	want int

	mu          sync.Mutex
	n, early    int
	first, last time.Time
	all         chan struct{}
}

// NewCount waits for so many.
func NewCount(want int) *Count { return &Count{want: want, all: make(chan struct{})} }

// Settled counts messages whose settling is committed.
func (c *Count) Settled(n int) {
	if n == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = time.Now()
	if c.n == 0 {
		c.first, c.early = c.last, n
	}
	if c.n += n; c.n == c.want {
		close(c.all)
	}
}

// All is closed when all are settled.
func (c *Count) All() <-chan struct{} { return c.all }

// Work is what a worker has to do, and did.
type Work struct {
	// Messages is how many there are.
	Messages int `json:"messages"`
	// Rate is how many a second were settled, from the first commit to the last.
	Rate float64 `json:"rate"`
}

// Report writes the rate for the process that waits for it.
func (c *Count) Report(out io.Writer) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n != c.want || c.n == c.early {
		return fmt.Errorf("%d of %d messages were settled, %d of them at first", c.n, c.want, c.early)
	}
	return json.NewEncoder(out).Encode(Work{Messages: c.n, Rate: float64(c.n-c.early) / c.last.Sub(c.first).Seconds()})
}

// Await runs work until all are settled, and reports.
func (c *Count) Await(ctx context.Context, out io.Writer, work func(ctx context.Context) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- work(ctx) }()
	select {
	case <-c.All():
	case err := <-ended:
		return errors.Join(errors.New("the worker ended before all was done"), err)
	}
	stop()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return c.Report(out)
}
