package report

import (
	"fmt"
	"slices"
)

// fallAllowed is how far below an earlier median the best of the rounds may
// lie: machines differ, and so do minutes.
const fallAllowed = 0.6

// Below says in a sentence each which ratios have fallen behind those of an
// earlier report: the best of the rounds lies 40 % below what was the median
// then. Where fewer is better it is the other way round, and what is within its
// limit has not fallen. A result of the earlier report that was not measured
// now is named too.
func (r *Report) Below(earlier *Report) []string {
	var fallen []string
	for i := range earlier.Results {
		was := &earlier.Results[i]
		at := slices.IndexFunc(r.Results, func(is Result) bool { return is.Case == was.Case && is.Of == was.Of && is.Unit == was.Unit })
		if at < 0 {
			fallen = append(fallen, fmt.Sprintf("%s, %s (%s): it was not measured", was.Case, was.Of, was.Unit))
			continue
		}
		fallen = append(fallen, r.Results[at].below(was)...)
	}
	return fallen
}

func (r *Result) below(was *Result) (fallen []string) {
	for _, ratio := range was.Ratios {
		at := slices.IndexFunc(r.Ratios, func(is Ratio) bool { return is.To == ratio.To })
		if at >= 0 && r.Ratios[at].High < fallAllowed*ratio.Median {
			fallen = append(fallen, fmt.Sprintf("%s, %s: %.2f of the %s at best, and it was %.2f", r.Case, r.Of, r.Ratios[at].High, ratio.To, ratio.Median))
		}
	}
	if !r.Less || len(r.Contenders) != len(was.Contenders) {
		return fallen
	}
	for i := range r.Contenders {
		is, before := &r.Contenders[i], &was.Contenders[i]
		if best := slices.Min(is.Values); best > max(before.Median()/fallAllowed, is.Limit) {
			fallen = append(fallen, fmt.Sprintf("%s, %s: %s %s %s at best, and it was %s", r.Case, r.Of, is.Name, number(best), r.Unit, number(before.Median())))
		}
	}
	return fallen
}
