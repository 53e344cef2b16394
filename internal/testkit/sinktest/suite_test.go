package sinktest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pg-tide/pg-tide/internal/testkit/conformance"
)

// short is how long a case waits for what a broken sink never does.
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

func TestARightSinkPasses(t *testing.T) {
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
		"delivers in order":                                                   {reorders, losesOne},
		"acknowledges batches sent before waiting":                            {reorders, losesOne, forgetsWaiters},
		"what was acknowledged is there after a kill of the far end":          {acknowledgesEarly},
		"acknowledges nothing while the far end hangs":                        {acknowledgesFrozen},
		"resends after a restart of the far end":                              {acknowledgesEarly, failsAfterSecondOpen},
		"loses and disorders nothing when the far end restarts amid batches":  {resendsBehind, losesOne},
		"loses and disorders nothing when the far end is killed amid batches": {resendsBehind, acknowledgesEarly},
		"loses and disorders nothing when connections are cut amid batches":   {resendsBehind, reorders},
		"loses and disorders nothing when the far end hangs amid batches":     {failsAfterSecondOpen, losesOne},
		"keeps the event id in the transport's own place":                     {forgetsIDs},
		"resent events are stored once":                                       {dropsNothing, forgetsIDs},
		"refuses the too large before sending":                                {sendsBeforeTooLarge, failsWhole},
		"reports a refused event and not its batch":                           {failsWhole, takesPoison, sendsBeforeTooLarge},
		"keeps bodies of every kind of text":                                  {trimsBodies},
		"keeps an empty body":                                                 {refusesEmpty},
		"keeps a body that is no text":                                        {trimsBodies},
		"keeps a body of 1 MiB":                                               {trimsBodies},
		"keeps headers":                                                       {losesHeaders},
		"no event leaves the prefix of its template":                          {ignoresDestination},
		"can be opened and closed again and again":                            {failsAfterSecondOpen, worksClosed},
		"fails before it was opened":                                          {worksUnopened},
		"gives up when the context ends":                                      {ignoresContext},
		"closes with batches outstanding":                                     {forgetsWaiters},
		"closes while the far end hangs":                                      {hangsOnClose},
		"leaves no goroutine":                                                 {leaksGoroutine},
		"leaves no goroutine when its connection was cut":                     {leaksGoroutine},
		"takes no more while nothing is acknowledged":                         {takesForever},
		"is read by the CloudEvents SDK in binary mode":                       {wrongAttributes, losesHeaders, trimsBodies},
		"is read by the CloudEvents SDK in structured mode":                   {trimsBodies},
	}
	all["notices that the far end lost what it had acknowledged"] = []broken{noticesNoLoss, failsAfterSecondOpen}
	all["gives up opening a far end that hangs"] = []broken{opensFrozen, hangsOnOpen}
	all["notices while idle that its connection is lost"] = []broken{noticesNoCut}
	for _, need := range conformance.Refusals() {
		all[conformance.Sentence(need)] = []broken{silentRefusal, showsSecret}
		if need != conformance.Unreachable {
			all[conformance.Sentence(need)] = append(all[conformance.Sentence(need)], wrongVerdict)
		}
	}
	return all
}

// A suite that cannot fail proves nothing.
func TestEachCaseNoticesTheSinkThatBreaksIt(t *testing.T) {
	t.Parallel()
	for name, faults := range breaks() {
		for _, fault := range faults {
			t.Run(name+"/"+string(fault), func(t *testing.T) {
				t.Parallel()
				c := caseNamed(t, name)
				said := conformance.Probe(t, short, func(t testing.TB) { c.Run(t, fakeFeatures(), fakeHarness(fault)) })
				if said == "" {
					t.Fatalf("a sink that %s passes", fault)
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

func TestHostileValuesAreNoticedWhereNothingMakesThemSafe(t *testing.T) {
	t.Parallel()
	technology := conformance.Technology(t, "nats")
	if said := conformance.Probe(t, short, func(t testing.TB) { hostileBatch(t, &Features{}, "events.{op}", &technology) }); said != "" {
		t.Errorf("a right technology fails: %s", said)
	}
	technology.Safe = func(value string, _ bool) string { return value }
	said := conformance.Probe(t, short, func(t testing.TB) { hostileBatch(t, &Features{}, "events.{op}", &technology) })
	for _, want := range []string{`"events.*"`, `"events.a.b"`, `"events...", out of the prefix`, `"events.", out of the prefix`} {
		if !strings.Contains(said, want) {
			t.Errorf("the case lacks %s; it says %s", want, said)
		}
	}
	technology.Safe = func(string, bool) string { return "a/.." }
	if said := conformance.Probe(t, short, func(t testing.TB) { hostileBatch(t, &Features{}, "hooks/{op}", &technology) }); !strings.Contains(said, "out of the prefix") {
		t.Errorf("a path out of the prefix passes: %s", said)
	}
	technology.Safe = func(string, bool) string { return strings.Repeat("x", 40) }
	bounded := &Features{LongestDestination: 20}
	if said := conformance.Probe(t, short, func(t testing.TB) { hostileBatch(t, bounded, "events.{op}", &technology) }); !strings.Contains(said, "nobody minds") {
		t.Errorf("a bound that is none passes: %s", said)
	}
}
