package sourcetest

import (
	"slices"
	"testing"
	"time"

	"github.com/pg-tide/pg-tide/internal/testkit/conformance"
)

// short is how long a case waits for what a broken source never does.
const short = 2 * time.Second

func caseNamed(t *testing.T, name string) testCase {
	t.Helper()
	all := cases()
	i := slices.IndexFunc(all, func(c testCase) bool { return c.Name == name })
	if i < 0 {
		t.Fatalf("the suite has no case %q", name)
	}
	return all[i]
}

func TestARightSourcePasses(t *testing.T) {
	t.Parallel()
	for _, c := range cases() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			c.Run(t, fakeFeatures(), fakeHarness(nothing))
		})
	}
}

// breaks says which cases must notice what.
func breaks() map[string][]broken {
	all := map[string][]broken{
		"reads in order what was and what is published":                       {reorders, losesOne, ignoresLimit},
		"what was acknowledged does not come again":                           {forgetsAcks},
		"what was not acknowledged comes again and first":                     {skipsUnacked},
		"after a crash the unacknowledged come before all":                    {skipsUnacked, cannotOpenAgain},
		"goes on after a restart of the far end":                              {skipsUnacked},
		"loses and disorders nothing when it crashes amid batches":            {skipsUnacked, cannotOpenAgain},
		"loses and disorders nothing when the far end restarts amid batches":  {skipsUnacked, reorders},
		"loses and disorders nothing when the far end is killed amid batches": {skipsUnacked, losesOne},
		"loses and disorders nothing when connections are cut amid batches":   {skipsUnacked, losesOne},
		"loses and disorders nothing when the far end hangs amid batches":     {skipsUnacked, ignoresContext},
		"each message has coordinates of its own, the same each time":         {renamesAgain},
		"reads the message id from the transport's own place":                 {losesIDs},
		"keeps bodies of every kind of text":                                  {trimsBodies},
		"keeps an empty body":                                                 {skipsEmpty},
		"keeps a body that is no text":                                        {trimsBodies},
		"keeps a body of 1 MiB":                                               {trimsBodies},
		"keeps headers":                                                       {losesHeaders},
		"says where and when each message was stored":                         {losesOrigin},
		"returns when the context ends":                                       {ignoresContext},
		"gives up opening when the context ends":                              {opensAnyway},
		"fails before it was opened":                                          {worksUnopened},
		"can be opened and closed again and again":                            {cannotOpenAgain, worksClosed, forgetsAcks},
		"closes while it waits for messages":                                  {sleepsOn},
		"closes while the far end hangs":                                      {hangsOnClose},
		"leaves no goroutine":                                                 {leaksGoroutine},
		"leaves no goroutine when its connection was cut":                     {leaksGoroutine},
		"delivers no more while nothing is acknowledged":                      {deliversForever},
		"holds little of a large backlog":                                     {hoards},
		"reads what the CloudEvents SDK writes in binary mode":                {losesAttributes, losesHeaders},
		"reads what the CloudEvents SDK writes in structured mode":            {losesAttributes, trimsBodies},
	}
	all["gives up opening a far end that hangs"] = []broken{opensFrozen}
	for _, need := range conformance.Refusals() {
		all[conformance.Sentence(need)] = []broken{silentRefusal, showsSecret}
		if need != conformance.Unreachable {
			all[conformance.Sentence(need)] = append(all[conformance.Sentence(need)], wrongVerdict)
		}
	}
	return all
}

// A suite that cannot fail proves nothing.
func TestEachCaseNoticesTheSourceThatBreaksIt(t *testing.T) {
	t.Parallel()
	for name, faults := range breaks() {
		for _, fault := range faults {
			t.Run(name+"/"+string(fault), func(t *testing.T) {
				t.Parallel()
				c := caseNamed(t, name)
				said := conformance.Probe(t, short, func(t testing.TB) { c.Run(t, fakeFeatures(), fakeHarness(fault)) })
				if said == "" {
					t.Fatalf("a source that %s passes", fault)
				}
				t.Log(said)
			})
		}
	}
}

// What the fakes cannot break is tested where it lives, by hand.
func TestEveryCaseIsBrokenByAFake(t *testing.T) {
	t.Parallel()
	byHand := []string{"an unknown key is an error with a suggestion"}
	known := breaks()
	for _, c := range cases() {
		if len(known[c.Name]) == 0 && !slices.Contains(byHand, c.Name) {
			t.Errorf("no fake breaks the case %q", c.Name)
		}
	}
}
