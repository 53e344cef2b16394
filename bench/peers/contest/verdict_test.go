package contest

import (
	"slices"
	"testing"

	"github.com/pg-tide/pg-tide/internal/torture/check"
)

// committed are events a1, a2, a3 of one key and b1 of another.
func committed() []check.Event {
	return []check.Event{
		{ID: "a1", Line: "orders/a", Seq: 1}, {ID: "a2", Line: "orders/a", Seq: 2},
		{ID: "a3", Line: "orders/a", Seq: 3}, {ID: "b1", Line: "orders/b", Seq: 1},
	}
}

func TestWhatIsPlantedIsFound(t *testing.T) {
	for name, c := range map[string]struct {
		arrived []string
		want    check.Verdict
	}{
		"all as committed":          {[]string{"a1", "a2", "b1", "a3"}, check.Verdict{}},
		"other keys in any order":   {[]string{"b1", "a1", "a2", "a3"}, check.Verdict{}},
		"one is lost":               {[]string{"a1", "b1", "a3"}, check.Verdict{Lost: 1}},
		"one comes twice":           {[]string{"a1", "a2", "a2", "a3", "b1"}, check.Verdict{Doubled: 1}},
		"one was never committed":   {[]string{"a1", "a2", "a3", "b1", "c1"}, check.Verdict{Invented: 1}},
		"one without an id":         {[]string{"a1", "a2", "a3", "b1", ""}, check.Verdict{Invented: 1}},
		"one overtakes":             {[]string{"a1", "a3", "a2", "b1"}, check.Verdict{Disordered: 1}},
		"a repeat is no disorder":   {[]string{"a1", "a2", "a3", "a1", "b1"}, check.Verdict{Doubled: 1}},
		"everything is lost":        {nil, check.Verdict{Lost: 4}},
		"lost, doubled, disordered": {[]string{"a3", "a1", "b1", "b1"}, check.Verdict{Lost: 1, Doubled: 1, Disordered: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			var arrivals []check.Arrival
			for i, id := range c.arrived {
				arrivals = append(arrivals, check.Arrival{ID: id, Place: int64(i)})
			}
			got := judge(committed(), arrivals)
			counts := func(v check.Verdict) []int { return []int{v.Lost, v.Doubled, v.Invented, v.Disordered} }
			if !slices.Equal(counts(got), counts(c.want)) {
				t.Errorf("lost, doubled, invented, disordered: %v; want %v", counts(got), counts(c.want))
			}
		})
	}
}
