// Package pgtest gives tests a real PostgreSQL: one throwaway server for each
// test process and major, and a fresh database for each test. It refuses to
// reach servers that it did not start, and is never part of the product.
//
// A package that uses it has this in a test file:
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
package pgtest

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/pg-tide/pg-tide/internal/throwaway"
)

// The majors that tests of compatibility start with and end with.
const (
	Oldest = throwaway.Oldest
	Newest = throwaway.Newest
)

// All returns every supported major.
func All() []int {
	var all []int
	for major := Oldest; major <= Newest; major++ {
		all = append(all, major)
	}
	return all
}

// Default is the major for tests that any will do for, written as 0 in this
// package's functions: the one on the machine, since it needs no fetching.
func Default(ctx context.Context) int {
	if major := throwaway.InstalledMajor(ctx); major != 0 {
		return major
	}
	return Newest
}

// shared holds the servers of this test process. Tests of one process cannot
// hand them to each other in any other way.
var shared = &servers{byMajor: map[int]*server{}}

type servers struct {
	mu      sync.Mutex
	byMajor map[int]*server
}

// server is started by the first test that needs it.
type server struct {
	once sync.Once
	*throwaway.Server
	err       error
	mu        sync.Mutex
	templates map[string]*template
}

// Main runs the tests, stops the servers, fails when a goroutine is left, and
// exits.
func Main(m *testing.M, options ...goleak.Option) { os.Exit(Run(m, options...)) }

// Run does what Main does, and returns the exit code instead. Whoever shares
// more than PostgreSQL between tests gives tests that end with closing it.
func Run(m interface{ Run() int }, options ...goleak.Option) int {
	code := m.Run()
	if err := shared.close(); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		code = max(code, 1)
	}
	if code == 0 {
		if err := goleak.Find(options...); err != nil {
			fmt.Fprintln(os.Stderr, "pgtest: goroutines are left:", err)
			code = 1
		}
	}
	return code
}

// Server returns this process's server of that major. Tests share it: whoever
// wants to stop or kill one starts Own.
func Server(t testing.TB, major int) *throwaway.Server {
	t.Helper()
	return shared.get(t, major).Server
}

func (s *servers) get(t testing.TB, major int) *server {
	t.Helper()
	if major == 0 {
		major = Default(t.Context())
	}
	s.mu.Lock()
	one := s.byMajor[major]
	if one == nil {
		one = &server{templates: map[string]*template{}}
		s.byMajor[major] = one
	}
	s.mu.Unlock()
	one.once.Do(func() {
		// The server outlives the test that happens to come first.
		one.Server, one.err = throwaway.Start(context.WithoutCancel(t.Context()), throwaway.Options{
			Major: major, PrivateTree: true, Notices: os.Stderr,
		})
	})
	if one.err != nil {
		t.Fatalf("start PostgreSQL %d: %v", major, one.err)
	}
	return one
}

func (s *servers) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var first error
	for _, one := range s.byMajor {
		if one.Server == nil {
			continue
		}
		if err := one.Close(); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// Own starts a server that belongs to the test alone, to be stopped, killed
// and restarted at will.
func Own(t testing.TB, options throwaway.Options) *throwaway.Server {
	t.Helper()
	if options.Notices == nil {
		options.Notices = os.Stderr
	}
	one, err := throwaway.Start(t.Context(), options)
	if err != nil {
		t.Fatalf("start a PostgreSQL of the test's own: %v", err)
	}
	t.Cleanup(func() {
		if err := one.Close(); err != nil {
			t.Errorf("close the test's PostgreSQL: %v", err)
		}
	})
	return one
}

// Each runs the test once for each of the majors.
func Each(t *testing.T, majors []int, test func(t *testing.T, major int)) {
	t.Helper()
	for _, major := range majors {
		t.Run("postgresql"+strconv.Itoa(major), func(t *testing.T) { test(t, major) })
	}
}
