package conformance

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pg-tide/pg-tide/internal/builtin"
	"github.com/pg-tide/pg-tide/internal/config"
)

// Technology returns the technology of that name from the list of all that is
// in the binary.
func Technology(t testing.TB, name string) builtin.Technology {
	t.Helper()
	all := builtin.Technologies()
	for i := range all {
		if all[i].Name == name {
			return all[i]
		}
	}
	t.Fatalf("internal/builtin has no technology %q", name)
	return builtin.Technology{}
}

// CheckKeys fails t unless a misspelt key is an error that names it and
// suggests the right one, and keys that hold secrets say so.
func CheckKeys(t testing.TB, fields func() []config.Field) {
	t.Helper()
	if fields == nil {
		t.Fatal("the technology declares no keys for this end")
	}
	all := fields()
	names := make([]string, len(all))
	for i := range all {
		names[i] = all[i].Name
	}
	for i := range all {
		f := &all[i]
		if holdsSecret(f.Name) && !f.Secret {
			t.Errorf("key %q is not declared as a secret", f.Name)
		}
		misspelt := f.Name + "x"
		if slices.Contains(names, misspelt) {
			continue
		}
		_, _, err := config.Decode(all, fmt.Appendf(nil, `{%q: 1}`, misspelt), config.Resolver{})
		// another key may be as near as the one that was meant
		if want := fmt.Sprintf("key %q is not known (did you mean \"", misspelt); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("key %q: got %v, want %q in it", misspelt, err, want)
		}
	}
	_, _, err := config.Decode(all, []byte(`{"zzz_no_such_key": 1}`), config.Resolver{})
	if err == nil || !strings.Contains(err.Error(), `"zzz_no_such_key" is not known`) {
		t.Errorf("an unknown key: got %v", err)
	}
}

func holdsSecret(name string) bool {
	if strings.HasSuffix(name, "_file") {
		return false
	}
	return slices.ContainsFunc([]string{"password", "token", "secret", "seed"}, func(part string) bool {
		return strings.Contains(name, part)
	})
}
