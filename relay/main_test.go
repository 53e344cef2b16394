package relay_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// example lends the helpers of tests to an example, which has no *testing.T.
type example struct {
	testing.TB
	cleanups []func()
}

func (e *example) Helper()                  {}
func (e *example) Name() string             { return "Example" }
func (e *example) Context() context.Context { return context.Background() }
func (e *example) Cleanup(f func())         { e.cleanups = append(e.cleanups, f) }
func (e *example) TempDir() string {
	dir, err := os.MkdirTemp("", "pg-tide-example-")
	if err != nil {
		e.Fatalf("%v", err)
	}
	e.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
func (e *example) Log(args ...any)                {}
func (e *example) Logf(string, ...any)            {}
func (e *example) Error(args ...any)              { fmt.Println(args...) }
func (e *example) Errorf(format string, a ...any) { fmt.Printf(format+"\n", a...) }
func (e *example) Fatal(args ...any)              { panic(fmt.Sprint(args...)) }
func (e *example) Fatalf(format string, a ...any) { panic(fmt.Sprintf(format, a...)) }
func (e *example) close() {
	for i := len(e.cleanups) - 1; i >= 0; i-- {
		e.cleanups[i]()
	}
}
