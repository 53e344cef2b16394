package kafkatest

import (
	"sync"
	"testing"
)

// Pool lends clusters to tests that disturb them, each to one test at a time:
// to start a broker takes longer than most of what is done to it.
type Pool struct {
	// Options say how they are set up.
	Options Options

	mu   sync.Mutex
	idle []*Cluster
}

// Borrow returns a cluster that runs and that nobody else has until the test
// ends. Whoever disturbs it leaves it running; that of a test that failed is
// not lent again.
func (p *Pool) Borrow(t testing.TB) *Cluster {
	t.Helper()
	c := p.take()
	if c == nil {
		var err error
		if c, err = New(p.Options); err != nil {
			t.Fatalf("%v", err)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			c.Close()
			return
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.idle = append(p.idle, c)
	})
	return c
}

func (p *Pool) take() *Cluster {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) == 0 {
		return nil
	}
	c := p.idle[len(p.idle)-1]
	p.idle = p.idle[:len(p.idle)-1]
	return c
}

// Close ends the clusters; TestMain calls it when no test runs any more.
func (p *Pool) Close() {
	for c := p.take(); c != nil; c = p.take() {
		c.Close()
	}
}
