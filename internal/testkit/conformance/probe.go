package conformance

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// probe stands in for a test that may fail without failing the one around it.
type probe struct {
	testing.TB
	patience time.Duration

	mu       sync.Mutex
	failed   bool
	said     []string
	cleanups []func()
}

// Probe runs a case and returns what it failed by; empty when it passed. It is
// how the suites are tested themselves: a suite that cannot fail proves nothing.
func Probe(t testing.TB, patience time.Duration, run func(t testing.TB)) string {
	p := &probe{TB: t, patience: patience}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer p.clean()
		run(p)
	}()
	<-done
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.failed {
		return ""
	}
	return strings.Join(append(p.said, "failed"), "; ")
}

func (p *probe) clean() {
	p.mu.Lock()
	all := slices.Clone(p.cleanups)
	p.mu.Unlock()
	for _, cleanup := range slices.Backward(all) {
		cleanup()
	}
}

func (p *probe) say(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.said = append(p.said, strings.TrimSpace(text))
}

// Context is not that of the test around it, which goes on.
func (p *probe) Context() context.Context { return context.WithoutCancel(p.TB.Context()) }

func (p *probe) Cleanup(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cleanups = append(p.cleanups, f)
}

func (p *probe) Fail() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed = true
}

func (p *probe) Failed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

func (p *probe) FailNow() {
	p.Fail()
	runtime.Goexit()
}

func (p *probe) Helper()                   {}
func (p *probe) Log(args ...any)           { p.say(fmt.Sprintln(args...)) }
func (p *probe) Logf(f string, a ...any)   { p.say(fmt.Sprintf(f, a...)) }
func (p *probe) Error(args ...any)         { p.say(fmt.Sprintln(args...)); p.Fail() }
func (p *probe) Errorf(f string, a ...any) { p.say(fmt.Sprintf(f, a...)); p.Fail() }
func (p *probe) Fatal(args ...any)         { p.say(fmt.Sprintln(args...)); p.FailNow() }
func (p *probe) Fatalf(f string, a ...any) { p.say(fmt.Sprintf(f, a...)); p.FailNow() }
