package conformance

import (
	"errors"
	"strings"
	"testing"

	"github.com/pg-tide/pg-tide/internal/delivery"
)

// CheckRefusal fails t unless err says in words what is wrong, with the right
// verdict and without a secret.
func CheckRefusal[End any](t testing.TB, need Need, r Refusal[End], err error) {
	t.Helper()
	if len(r.Says) == 0 {
		t.Fatalf("the harness names nothing that the sentence must say about %q", need)
	}
	if err == nil {
		t.Fatalf("%s: nothing fails", need)
	}
	var partial *delivery.Partial
	if errors.As(err, &partial) {
		first, _ := partial.First()
		err = partial.Failed[first]
	}
	want := delivery.VerdictMisconfigured
	if r.Retries || need == Unreachable {
		want = delivery.VerdictRetry
	}
	if got, _ := delivery.VerdictOf(err); got != want {
		t.Errorf("%s: the verdict is %d, want %d: %v", need, got, want, err)
	}
	for _, part := range r.Says {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%s: the sentence lacks %q: %v", need, part, err)
		}
	}
	for _, secret := range r.Hides {
		if secret != "" && strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the sentence shows a secret: %v", need, err)
		}
	}
}

// Sentence is the name of the case about something that is wrong.
func Sentence(need Need) string { return "says in words what is wrong: " + string(need) }
