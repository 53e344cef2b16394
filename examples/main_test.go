package examples

import (
	"flag"
	"strconv"
	"testing"
	"time"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
)

// patience is how long anything may take on a busy machine.
const patience = 90 * time.Second

func TestMain(m *testing.M) {
	waitTogether()
	pgtest.Main(m)
}

// waitTogether lets the languages install and wait at the same time; -parallel
// says otherwise.
func waitTogether() {
	flag.Parse()
	const name = "test.parallel"
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == name })
	if !given {
		_ = flag.Set(name, strconv.Itoa(2*len(languages()))) // it takes any number
	}
}

// eventually asks again until the condition holds: what the database shows has
// no signal of its own.
func eventually(t *testing.T, condition func() (bool, string)) {
	t.Helper()
	deadline := time.After(patience)
	again := time.NewTicker(50 * time.Millisecond)
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
