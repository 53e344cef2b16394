package plan_test

import (
	"slices"
	"testing"
	"time"

	"github.com/pg-tide/pg-tide/internal/torture/plan"
)

func options(seed uint64) plan.Options {
	return plan.Options{Seed: seed, For: 5 * time.Minute, Kinds: plan.All(), Every: 2 * time.Second, Services: 4, Relays: 2}
}

func TestTheSameSeedDrawsTheSameSchedule(t *testing.T) {
	t.Parallel()
	one, again, other := plan.Draw(options(1)), plan.Draw(options(1)), plan.Draw(options(2))
	if !slices.Equal(one, again) {
		t.Error("the same seed drew two schedules")
	}
	if slices.Equal(one, other) {
		t.Error("two seeds drew one schedule")
	}
}

func TestEveryKindTurnsUpBeforeOneTurnsUpAgain(t *testing.T) {
	t.Parallel()
	faults := plan.Draw(options(3))
	kinds := plan.Scheduled()
	if len(faults) < 2*len(kinds) {
		t.Fatalf("only %d faults", len(faults))
	}
	for _, round := range [][]plan.Fault{faults[:len(kinds)], faults[len(kinds) : 2*len(kinds)]} {
		for _, kind := range kinds {
			if !slices.ContainsFunc(round, func(f plan.Fault) bool { return f.Kind == kind }) {
				t.Errorf("%s is missing in a round", kind)
			}
		}
	}
}

func TestFaultsStayWithinTheTraffic(t *testing.T) {
	t.Parallel()
	for _, f := range plan.Draw(options(4)) {
		if f.At <= 0 || f.At >= 5*time.Minute || f.For < 0 || f.Service > 3 || f.Relay > 1 {
			t.Errorf("out of bounds: %s", f)
		}
	}
}

func TestNothingIsDrawnFromNothing(t *testing.T) {
	t.Parallel()
	o := options(5)
	o.Kinds = []plan.Kind{plan.AsyncCommit}
	if faults := plan.Draw(o); len(faults) != 0 {
		t.Errorf("drew %v", faults)
	}
}

func TestListsOfFaultsAreUnderstood(t *testing.T) {
	t.Parallel()
	without := slices.DeleteFunc(plan.All(), func(k plan.Kind) bool { return k == plan.BrokerFull })
	for list, want := range map[string][]plan.Kind{
		"":                          plan.All(),
		"all":                       plan.All(),
		"none":                      nil,
		"-broker-full":              without,
		"all,-broker-full":          without,
		"relay-kill, broker-kill":   {plan.RelayKill, plan.BrokerKill},
		"none,pause":                {plan.Pause},
		"relay-kill,-relay-kill":    nil,
		"async-commit,worker-crash": {plan.AsyncCommit, plan.WorkerCrash},
	} {
		got, err := plan.Parse(list)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q gives %v, %v", list, got, err)
		}
	}
	for _, list := range []string{"relay-kil", "-nothing", "all,x"} {
		if got, err := plan.Parse(list); err == nil {
			t.Errorf("%q gives %v", list, got)
		}
	}
}
