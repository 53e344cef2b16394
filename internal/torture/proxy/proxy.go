// Package proxy stands between a client and a server on the loopback and
// cuts, delays or silences what passes. It understands no protocol and alters
// no byte.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/pg-tide/pg-tide/internal/run"
)

// State is what the proxy does to connections.
type State struct {
	// Cut refuses new connections; going into it closes those there are.
	Cut bool
	// Silent passes nothing on and closes nothing.
	Silent bool
	// HalfOpen hangs up on the server and leaves the client in the dark.
	HalfOpen bool
	// Delay is added to each piece, in both directions.
	Delay time.Duration
	// Late is added to what the server says alone: what the client sends
	// arrives in time, also when it hangs up right after.
	Late time.Duration
}

// Proxy forwards connections from Address to a target.
type Proxy struct {
	target   string
	listener net.Listener
	accept   *run.Task

	mu      sync.Mutex
	state   State
	changed chan struct{} // closed when the state changes
	links   map[*link]struct{}
	work    sync.WaitGroup
	closed  bool
}

// link is one connection through the proxy.
type link struct {
	client, server net.Conn
	abandoned      bool // the server's side is gone and the client does not know
}

// Start listens on a free port of the loopback and forwards to target.
func Start(ctx context.Context, target string) (*Proxy, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for a proxy: %w", err)
	}
	p := &Proxy{target: target, listener: listener, changed: make(chan struct{}), links: map[*link]struct{}{}}
	p.accept = run.Start(context.WithoutCancel(ctx), func(_, work context.Context) error { return p.serve(work) })
	return p, nil
}

// Address is where clients connect.
func (p *Proxy) Address() string { return p.listener.Addr().String() }

// Set changes what is done to connections, those there are included.
func (p *Proxy) Set(state State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = state
	close(p.changed)
	p.changed = make(chan struct{})
	for l := range p.links {
		switch {
		case state.Cut, l.abandoned && !state.HalfOpen:
			hangUp(l.client)
			hangUp(l.server)
		case state.HalfOpen && !l.abandoned:
			l.abandoned = true
			hangUp(l.server)
		}
	}
}

// hangUp closes a connection; one that is closed already is none the worse.
func hangUp(conn net.Conn) { _ = conn.Close() }

// Close ends all connections and waits until nothing runs any more.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	for l := range p.links {
		hangUp(l.client)
		hangUp(l.server)
	}
	close(p.changed)
	p.changed = make(chan struct{})
	p.mu.Unlock()
	_ = p.listener.Close() // accepting ends either way
	p.accept.Cancel(run.ErrStopped)
	_ = p.accept.Wait() // it was told to end
	p.work.Wait()
}

func (p *Proxy) serve(ctx context.Context) error {
	for {
		client, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		p.work.Go(func() { p.connect(ctx, client) })
	}
}

// connect carries one connection until it ends.
func (p *Proxy) connect(ctx context.Context, client net.Conn) {
	defer hangUp(client)
	if !p.passable() {
		return
	}
	server, err := new(net.Dialer).DialContext(ctx, "tcp", p.target)
	if err != nil {
		return // the client sees its connection end
	}
	defer hangUp(server)
	l := &link{client: client, server: server}
	if !p.add(l) {
		return
	}
	defer p.remove(l)
	var both sync.WaitGroup
	both.Go(func() { p.pump(l, client, server, false) })
	both.Go(func() { p.pump(l, server, client, true) })
	both.Wait()
}

// passable waits while connections are to hang, and says whether they may pass.
func (p *Proxy) passable() bool {
	for {
		p.mu.Lock()
		state, changed, closed := p.state, p.changed, p.closed
		p.mu.Unlock()
		if closed || state.Cut {
			return false
		}
		if !state.Silent && !state.HalfOpen {
			return true
		}
		<-changed
	}
}

func (p *Proxy) add(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.state.Cut {
		return false
	}
	p.links[l] = struct{}{}
	return true
}

func (p *Proxy) remove(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}

// pump carries one direction. Its end hangs up on both sides, unless the
// client is to be left in the dark.
func (p *Proxy) pump(l *link, from, to net.Conn, answers bool) {
	defer p.finish(l)
	buffer := make([]byte, 32*1024)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if !p.await(l, answers) {
				return
			}
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// await holds a piece back for as long as the state says. It is false when
// the link is to end.
func (p *Proxy) await(l *link, answers bool) bool {
	for {
		p.mu.Lock()
		state, changed, closed, abandoned := p.state, p.changed, p.closed, l.abandoned
		p.mu.Unlock()
		delay := state.Delay
		if answers {
			delay += state.Late
		}
		switch {
		case closed || state.Cut || abandoned:
			return false
		case state.Silent:
			<-changed
			continue
		case delay == 0:
			return true
		}
		timer := time.NewTimer(delay)
		<-timer.C
		return true
	}
}

func (p *Proxy) finish(l *link) {
	for {
		p.mu.Lock()
		dark, changed := l.abandoned && p.state.HalfOpen && !p.closed, p.changed
		p.mu.Unlock()
		if !dark {
			break
		}
		<-changed
	}
	hangUp(l.client)
	hangUp(l.server)
}
