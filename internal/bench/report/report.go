// Package report is what was measured, as values, as tables with bars, and as
// a picture. It refuses to judge.
package report

import (
	"slices"
	"time"
)

// Report is what was measured, and on what.
type Report struct {
	Machine Machine   `json:"machine"`
	Begun   time.Time `json:"begun"`
	Took    float64   `json:"took_seconds"`
	Results []Result  `json:"results"`
}

// Result is one thing that was measured: contenders that did the same work in
// turns.
type Result struct {
	// Case is its name, Of says with what: "200 B".
	Case string `json:"case"`
	Of   string `json:"of"`
	// Unit is that of all values; Less says that fewer of it are better.
	Unit string `json:"unit"`
	Less bool   `json:"less_is_better,omitempty"`
	// Contenders end with the product; the others are its yardsticks.
	Contenders []Contender `json:"contenders"`
	// Ratios are those of the product to each yardstick, in their order.
	Ratios []Ratio `json:"ratios,omitempty"`
}

// Contender is one way of doing it, and a value for each round.
type Contender struct {
	Name   string    `json:"name"`
	Values []float64 `json:"values"`
	// Limit is the least, or the most where less is better, that is promised
	// for its median; 0 promises nothing.
	Limit float64 `json:"limit,omitempty"`
}

// Ratio is that of the product to a yardstick, from the values of the same
// round, which lie close together.
type Ratio struct {
	To     string    `json:"to"`
	Values []float64 `json:"values"`
	Median float64   `json:"median"`
	Low    float64   `json:"low"`
	High   float64   `json:"high"`
	// Promised is the least that the project promises; 0 promises nothing.
	Promised float64 `json:"promised,omitempty"`
}

// Yardstick is a contender that the product is compared with.
type Yardstick struct {
	Contender
	// Promised is the least ratio that the project promises; 0 promises nothing.
	Promised float64
}

// Beside makes a yardstick of a contender.
func (c Contender) Beside(promised float64) Yardstick {
	return Yardstick{Contender: c, Promised: promised}
}

// Compare makes a result of yardsticks and the product.
func Compare(name, of, unit string, product Contender, yardsticks ...Yardstick) Result {
	r := Result{Case: name, Of: of, Unit: unit}
	for _, y := range yardsticks {
		r.Contenders = append(r.Contenders, y.Contender)
		ratio := Ratio{To: y.Name, Promised: y.Promised}
		for i := range product.Values {
			ratio.Values = append(ratio.Values, product.Values[i]/y.Values[i])
		}
		ratio.Median, ratio.Low, ratio.High = Quantile(ratio.Values, 0.5), slices.Min(ratio.Values), slices.Max(ratio.Values)
		r.Ratios = append(r.Ratios, ratio)
	}
	r.Contenders = append(r.Contenders, product)
	return r
}

// Median is the middle of the values.
func (c *Contender) Median() float64 { return Quantile(c.Values, 0.5) }

// Quantile is the value below which the share q of the values lies.
func Quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[int(q*float64(len(sorted)-1)+0.5)]
}
