package kafka_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/pg-tide/pg-tide/internal/connector/kafka"
)

func TestTopicsStayLegalWhateverIsFilledIn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		value string
		dots  bool
		want  string
	}{
		{"order.created", true, "order.created"},
		{"order.created", false, "order_created"},
		{"", true, "_"},
		{".", true, "_._"},
		{"..", true, "_._._"},
		{"a..b", true, "a._.b"},
		{"Größe / 1", true, "Gr__e___1"},
		{"a\x00b\n*>", false, "a_b___"},
		{"A-z_9", false, "A-z_9"},
	} {
		if got := kafka.SafeToken(c.value, c.dots); got != c.want {
			t.Errorf("%q became %q, want %q", c.value, got, c.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		value, dots := rapid.String().Draw(t, "value"), rapid.Bool().Draw(t, "dots")
		token := kafka.SafeToken(value, dots)
		if len(token) > 200 {
			return
		}
		if err := kafka.CheckTopic("x" + token); err != nil {
			t.Errorf("%q became the illegal topic %q: %v", value, token, err)
		}
		if !dots && strings.Contains(token, ".") {
			t.Errorf("%q became %q and left its part of the name", value, token)
		}
	})
	for _, bad := range []string{".", "..", "a b", "a/b", "größe", "__consumer_offsets", strings.Repeat("x", 250)} {
		if kafka.CheckTopic(bad) == nil {
			t.Errorf("topic %q is legal", bad)
		}
	}
}
