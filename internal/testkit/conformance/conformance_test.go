package conformance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pg-tide/pg-tide/internal/config"
	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
)

const soon = 2 * time.Second

// says asserts what a check fails by; "" that it passes.
func says(t *testing.T, want string, check func(t testing.TB)) {
	t.Helper()
	got := Probe(t, soon, check)
	if want == "" && got != "" || !strings.Contains(got, want) || want != "" && got == "" {
		t.Errorf("the check says %q, want %q in it", got, want)
	}
}

func TestNothingIsLeftOutInSilence(t *testing.T) {
	t.Parallel()
	needs := []Need{Kill, Order}
	for _, c := range []struct {
		name, want string
		lacks      Lacks
		has        map[Need]bool
	}{
		{"there", "", nil, map[Need]bool{Kill: true}},
		{"lacking", "", Lacks{Kill: "it cannot die"}, map[Need]bool{Kill: false}},
		{"neither", `neither has the harness "kill"`, nil, map[Need]bool{Kill: false}},
		{"both", `Lacks names "kill", and the harness has it`, Lacks{Kill: "it cannot die"}, map[Need]bool{Kill: true}},
		{"no reason", "without a reason", Lacks{Kill: ""}, map[Need]bool{Kill: false}},
		{"not a need", "which no case needs", Lacks{"kills": "x"}, map[Need]bool{Kill: true}},
		{"inherent", "", Lacks{Order: "it has none"}, map[Need]bool{Kill: true}},
	} {
		says(t, c.want, func(t testing.TB) { honest(t, c.lacks, c.has, needs) })
	}
	if got := missing(map[Need]bool{Kill: false}, needs); got != Kill {
		t.Errorf("the case misses %q", got)
	}
}

func envelopes(keys string, bodies string) []message.Envelope {
	var all []message.Envelope
	for i := range bodies {
		all = append(all, message.Envelope{Body: []byte(bodies[i : i+1]), Key: keys[i : i+1]})
	}
	return all
}

func TestArrivalsAreComparedInTheOrderThatIsKept(t *testing.T) {
	t.Parallel()
	want := envelopes("xyxy", "abcd")
	for _, c := range []struct {
		got       string
		kept      OrderKept
		once, any string // what each check says
	}{
		{"abcd", Whole, "", ""},
		{"bacd", Whole, "came before 1 earlier", "came before 1 earlier"},
		{"badc", ByKey, "", ""},
		{"cabd", ByKey, "came before 1 earlier", "came before 1 earlier"},
		{"dcba", None, "", ""},
		{"abc", None, "3 events arrived, want 4", "3 events arrived, want 4"},
		{"abc", Whole, "3 events arrived, want 4", "3 events arrived, want 4"},
		{"abcabcd", Whole, "came twice", ""},
		{"aabbccdd", Whole, "came twice", ""},
		{"abdc", Whole, "came before 1 earlier", "came before 1 earlier"},
		{"abcde", Whole, "never sent", "never sent"},
	} {
		got := envelopes("........", c.got)
		says(t, c.once, func(t testing.TB) { Exactly(t, c.kept, got, want) })
		says(t, c.any, func(t testing.TB) { AtLeastOnce(t, c.kept, got, want) })
	}
}

func TestKeptFollowsTheFeatures(t *testing.T) {
	t.Parallel()
	if Kept(nil, false) != Whole || Kept(nil, true) != ByKey || Kept(Lacks{Order: "none"}, true) != None {
		t.Error("the features say something else")
	}
}

func TestARefusalSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	right := Refusal[int]{Says: []string{"set the key"}, Hides: []string{"hidden"}}
	later := right
	later.Retries = true
	sentence := errors.New("no; set the key")
	for _, c := range []struct {
		need    Need
		refusal Refusal[int]
		err     error
		want    string
	}{
		{WrongLogin, right, delivery.Misconfigured(sentence), ""},
		{WrongLogin, right, &delivery.Partial{Failed: map[int]error{0: delivery.Misconfigured(sentence)}}, ""},
		{WrongLogin, right, nil, "nothing fails"},
		{WrongLogin, right, sentence, "the verdict is 0, want 2"},
		{WrongLogin, later, sentence, ""},
		{Unreachable, right, sentence, ""},
		{Unreachable, right, delivery.Misconfigured(sentence), "the verdict is 2, want 0"},
		{WrongLogin, right, delivery.Misconfigured(errors.New("no")), `lacks "set the key"`},
		{WrongLogin, right, delivery.Misconfigured(errors.New("set the key, not hidden")), "shows a secret"},
		{WrongLogin, Refusal[int]{}, delivery.Misconfigured(sentence), "names nothing that the sentence must say"},
	} {
		says(t, c.want, func(t testing.TB) { CheckRefusal(t, c.need, c.refusal, c.err) })
	}
}

func TestKeysThatHoldSecretsSaySo(t *testing.T) {
	t.Parallel()
	fields := func(f config.Field) func() []config.Field { return func() []config.Field { return []config.Field{f} } }
	for _, c := range []struct {
		fields func() []config.Field
		want   string
	}{
		{fields(config.Field{Name: "password", Kind: config.String, Secret: true}), ""},
		{fields(config.Field{Name: "password_file", Kind: config.String}), ""},
		{fields(config.Field{Name: "access_token", Kind: config.String}), "not declared as a secret"},
		{nil, "declares no keys"},
	} {
		says(t, c.want, func(t testing.TB) { CheckKeys(t, c.fields) })
	}
}

func TestGoroutinesOfOthersAreNotOurs(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	defer close(release)
	go func() { <-release }()
	says(t, "", func(t testing.TB) { LeavesNoGoroutine(Limited(t), t, func(context.Context) {}) })
	says(t, "goroutines are left", func(t testing.TB) {
		LeavesNoGoroutine(Limited(t), t, func(context.Context) { go func() { <-release }() })
	})
}

func TestARecordIsComparedAndIsWrittenOnlyWhenAllHasPassed(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "pigeon")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(folder)
	t.Setenv(WriteVariable, "")
	s := Subject[struct{}, struct{}]{Technology: "pigeon", End: "sink", Variant: "grey", Lacks: Lacks{Kill: "it cannot die"}}
	cases := []Case[struct{}, struct{}]{Promise[struct{}, struct{}](Durable, "a", nil, Kill), Promise[struct{}, struct{}](Durable, "b", nil)}
	says(t, "make conformance", func(t testing.TB) { s.keepRecord(t, cases, 2) })
	t.Setenv(WriteVariable, "write")
	says(t, "1 of 2 cases ran and passed", func(t testing.TB) { s.keepRecord(t, cases, 1) })
	says(t, "", func(t testing.TB) { s.keepRecord(t, cases, 2) })
	t.Setenv(WriteVariable, "")
	says(t, "", func(t testing.TB) { s.keepRecord(t, cases, 1) })
	text, err := os.ReadFile(filepath.Join("testdata", "conformance", "sink-grey.json"))
	if err != nil || !strings.Contains(string(text), `"reason": "it cannot die"`) {
		t.Errorf("the record is %s, %v", text, err)
	}
	s.Lacks = nil
	says(t, "make conformance", func(t testing.TB) { s.keepRecord(t, cases, 2) })
	s.Technology = "dove" // in the same folder
	says(t, "dove-sink-grey.json", func(t testing.TB) { s.keepRecord(t, cases, 2) })
}

func TestAHarnessLearnsWhatTheCaseNeeds(t *testing.T) {
	t.Parallel()
	cases := []Case[struct{}, struct{}]{Promise[struct{}, struct{}](Durable, "is there after a kill", nil, Kill), Promise[struct{}, struct{}](Durable, "is there", nil)}
	for name, want := range map[string]bool{"is there after a kill": true, "is there": false, "something else": false} {
		t.Run(name, func(t *testing.T) {
			if got := Disturbs(NeedsOf(t, cases)); got != want {
				t.Errorf("the case disturbs the far end: %t", got)
			}
		})
	}
}

func TestProbeKeepsAFailureToItself(t *testing.T) {
	t.Parallel()
	var order []string
	got := Probe(t, soon, func(t testing.TB) {
		t.Cleanup(func() { order = append(order, "first") })
		t.Cleanup(func() { order = append(order, "second") })
		t.Errorf("one %d", 1)
		t.Fatal("two")
		t.Error("three")
	})
	if !strings.Contains(got, "one 1; two") || strings.Contains(got, "three") || fmt.Sprint(order) != "[second first]" {
		t.Errorf("said %q, cleaned up %v", got, order)
	}
}
