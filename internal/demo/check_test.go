package demo

import (
	"strings"
	"testing"
)

func TestCompareTellsLostDoubledInventedAndOutOfOrder(t *testing.T) {
	wanted := []event{
		{id: "1", key: "a", seq: 1}, {id: "2", key: "a", seq: 2}, {id: "3", key: "b", seq: 1},
	}
	one, two, three := arrival{"1", "a", 1}, arrival{"2", "a", 2}, arrival{"3", "b", 1}
	cases := map[string]struct {
		arrived []arrival
		want    string
	}{
		"all in order":                      {[]arrival{one, two, three}, "lost 0, doubled 0, invented 0, out of order 0"},
		"other keys in between":             {[]arrival{one, three, two}, "lost 0, doubled 0, invented 0, out of order 0"},
		"nothing":                           {nil, "lost 3, doubled 0, invented 0, out of order 0"},
		"one missing":                       {[]arrival{one, three}, "lost 1, doubled 0, invented 0, out of order 0"},
		"one twice":                         {[]arrival{one, one, two, three}, "lost 0, doubled 1, invented 0, out of order 0"},
		"an early one again later":          {[]arrival{one, two, one, three}, "lost 0, doubled 1, invented 0, out of order 0"},
		"never committed":                   {[]arrival{one, two, three, {"9", "c", 1}}, "lost 0, doubled 0, invented 1, out of order 0"},
		"rolled back and then used again":   {[]arrival{{"8", "a", 1}, one, two, three}, "lost 0, doubled 0, invented 1, out of order 0"},
		"the later one of a key came first": {[]arrival{two, one, three}, "lost 0, doubled 0, invented 0, out of order 1"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := compare(wanted, c.arrived)
			if got.String() != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if got.clean() != strings.HasPrefix(c.want, "lost 0, doubled 0, invented 0, out of order 0") {
				t.Errorf("clean is %v", got.clean())
			}
			if got.clean() != (len(got.example) == 0) {
				t.Errorf("examples: %v", got.example)
			}
		})
	}
}
