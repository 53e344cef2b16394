package e2e

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
)

// work is where the built command lies; it goes with the tests.
var work string

func TestMain(m *testing.M) {
	waitTogether()
	var err error
	if work, err = os.MkdirTemp("", "pg-tide-e2e-"); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	code := pgtest.Run(withKafka{m})
	_ = os.RemoveAll(work) // nothing depends on it
	os.Exit(code)
}

// withKafka closes the shared broker after the tests.
type withKafka struct{ tests *testing.M }

func (w withKafka) Run() int {
	defer sharedKafka.Close()
	return w.tests.Run()
}

// waitTogether runs twice as many tests at once as there are processors, since
// they wait for most of their time; -parallel says otherwise.
func waitTogether() {
	flag.Parse()
	const name = "test.parallel"
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == name })
	if !given {
		_ = flag.Set(name, strconv.Itoa(2*runtime.GOMAXPROCS(0))) // it takes any number
	}
}

// eventually asks again until the condition holds. It is for states that have
// no signal of their own, such as a view.
func eventually(t *testing.T, condition func() (bool, string)) {
	t.Helper()
	deadline := time.After(patience)
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		holds, what := condition()
		if holds {
			return
		}
		select {
		case <-again.C:
		case <-deadline:
			t.Fatalf("still not so after %s: %s", patience, what)
		}
	}
}
