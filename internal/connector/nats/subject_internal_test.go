package nats

import "testing"

func TestPatternIsTheNarrowestSubjectThatTakesTheTemplate(t *testing.T) {
	t.Parallel()
	for template, want := range map[string]string{
		"events.orders.{op}":              "events.orders.*",
		"events.orders":                   "events.orders",
		"{outbox}.{op}":                   "my_outbox.*",
		"{outbox_name}.all":               "my_outbox.all",
		"events.{stream}.{op}":            "events.>",
		"events.{event_type}":             "events.>",
		"a-{op}.b":                        "*.b",
		"a.{payload.customer.id}.{op}":    "a.*.*",
		"a.{headers.region}":              "a.*",
		"events.{stream_table}":           "events.>",
		"events.x{key}y.{unknown}.more.z": "events.*.>",
	} {
		if got := pattern(template, "my_outbox"); got != want {
			t.Errorf("pattern(%q) = %q, want %q", template, got, want)
		}
	}
}

func TestCoversAndOverlap(t *testing.T) {
	t.Parallel()
	cases := []struct {
		a, b            string
		covers, overlap bool
	}{
		{"a.>", "a.b", true, true},
		{"a.>", "a", false, false},
		{"a.>", "a.b.>", true, true},
		{"a.b.>", "a.>", false, true},
		{"a.*", "a.b", true, true},
		{"a.b", "a.*", false, true},
		{"a.*", "a.>", false, true},
		{"a.*", "a.b.c", false, false},
		{">", "a", true, true},
		{"*.b", "a.*", false, true},
		{"a.b", "a.c", false, false},
		{"a", "a", true, true},
	}
	for _, c := range cases {
		if got := covers(c.a, c.b); got != c.covers {
			t.Errorf("covers(%q, %q) = %t", c.a, c.b, got)
		}
		if got := overlap(c.a, c.b); got != c.overlap {
			t.Errorf("overlap(%q, %q) = %t", c.a, c.b, got)
		}
	}
}
