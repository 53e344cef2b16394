package conformance

import (
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// Case is one promise, and how it is checked. F are the declared features of
// the technology, H is the harness of a fresh far end.
type Case[F, H any] struct {
	// Guarantee is the row of the table that the case belongs to.
	Guarantee string
	// Name is the promise in words.
	Name  string
	Needs []Need
	Run   func(t testing.TB, features F, harness H)
}

// Subject is a technology that a suite is run on.
type Subject[F, H any] struct {
	// Technology is its name in configurations; End is "sink" or "source";
	// Variant tells several of one technology's apart.
	Technology, End, Variant string
	Lacks                    Lacks
	Features                 F
	// Start makes a fresh far end.
	Start func(t *testing.T) H
	// Has says whether features or harness have what cases need. A need that it
	// does not know is there unless the technology lacks it.
	Has func(features F, harness H) map[Need]bool
}

// Run runs the cases, each on a far end of its own, and compares the record.
func Run[F, H any](t *testing.T, s Subject[F, H], cases []Case[F, H]) {
	t.Helper()
	if s.Technology == "" {
		t.Fatal("Features.Technology is empty: it names the technology as configurations do")
	}
	var passed atomic.Int64
	// After the cases, which run in parallel, and with their verdict.
	t.Cleanup(func() { s.keepRecord(t, cases, int(passed.Load())) })
	t.Run("declares what it has and what it lacks", func(t *testing.T) {
		t.Parallel()
		honest(t, s.Lacks, s.Has(s.Features, s.Start(t)), needsOf(cases))
	})
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			defer func() {
				if !t.Failed() {
					passed.Add(1)
				}
			}()
			if need, reason := s.Lacks.first(c.Needs); need != "" {
				t.Logf("not asked for: it lacks %q: %s", need, reason)
				return
			}
			harness := s.Start(t)
			if missing := missing(s.Has(s.Features, harness), c.Needs); missing != "" {
				t.Fatalf("the case needs %q: neither has the harness it, nor does Lacks say why not", missing)
			}
			c.Run(t, s.Features, harness)
		})
	}
}

// honest fails for what is neither there nor said to be lacking, and for what is both.
func honest(t testing.TB, lacks Lacks, has map[Need]bool, needs []Need) {
	t.Helper()
	for _, need := range needs {
		there, known := has[need]
		reason, lacking := lacks[need]
		switch {
		case lacking && reason == "":
			t.Errorf("Lacks names %q without a reason", need)
		case lacking && there:
			t.Errorf("Lacks names %q, and the harness has it", need)
		case !lacking && known && !there:
			t.Errorf("neither has the harness %q, nor does Lacks say why not", need)
		}
	}
	for need := range lacks {
		if !slices.Contains(needs, need) {
			t.Errorf("Lacks names %q, which no case needs", need)
		}
	}
}

func missing(has map[Need]bool, needs []Need) Need {
	for _, need := range needs {
		if there, known := has[need]; known && !there {
			return need
		}
	}
	return ""
}

// first returns the first of the needs that is lacking, and why.
func (l Lacks) first(needs []Need) (Need, string) {
	for _, need := range needs {
		if reason, lacking := l[need]; lacking {
			return need, reason
		}
	}
	return "", ""
}

func needsOf[F, H any](cases []Case[F, H]) []Need {
	all := map[Need]bool{}
	for i := range cases {
		for _, need := range cases[i].Needs {
			all[need] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// Promise makes a case.
func Promise[F, H any](guarantee, name string, run func(testing.TB, F, H), needs ...Need) Case[F, H] {
	return Case[F, H]{Guarantee: guarantee, Name: name, Needs: needs, Run: run}
}

// NeedsOf returns what the case that t runs needs; nothing when t runs none.
func NeedsOf[F, H any](t testing.TB, cases []Case[F, H]) []Need {
	for i := range cases {
		// as t.Run writes names
		if strings.HasSuffix(t.Name(), "/"+strings.ReplaceAll(cases[i].Name, " ", "_")) {
			return cases[i].Needs
		}
	}
	return nil
}

// Disturbs says that one of the needs is for something to happen to the far
// end itself, and not only to the connections to it.
func Disturbs(needs []Need) bool {
	return slices.ContainsFunc(needs, func(n Need) bool { return n == Restart || n == Kill || n == Freeze || n == Lose })
}
