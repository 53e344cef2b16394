package contest

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/pg-tide/pg-tide/internal/bench/report"
	"github.com/pg-tide/pg-tide/internal/torture/check"
)

// Report is what was measured, and on what.
type Report struct {
	Machine        report.Machine `json:"machine"`
	Begun          time.Time      `json:"begun"`
	TookSeconds    float64        `json:"took_seconds"`
	Size           int            `json:"payload_bytes"`
	Events         int            `json:"events"`
	SlowEvents     int            `json:"events_of_slow_ones"`
	Rounds         int            `json:"rounds"`
	WritingSeconds float64        `json:"writing_seconds"`
	// Out and In begin with ours.
	Out []*Line `json:"out"`
	In  []*Line `json:"in"`
	// Work ends with the peer that ours are compared with.
	Work []*Line `json:"work,omitempty"`
	// Ahead is what ours is of the fastest peer, by the median of rounds.
	OutAhead Ahead     `json:"out_ahead"`
	InAhead  Ahead     `json:"in_ahead"`
	LeftOut  []LeftOut `json:"left_out,omitempty"`
}

// Line is one contestant.
type Line struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	// Events is its backlog.
	Events int `json:"events"`
	// Rates are events per second, one a round.
	Rates  []float64 `json:"rates"`
	Median float64   `json:"median"`
	// LaterRates are those of the second half of the backlog.
	LaterRates  []float64 `json:"rates_of_second_half,omitempty"`
	LaterMedian float64   `json:"median_of_second_half,omitempty"`
	// Ratio is ours divided by this one, round by round.
	Ratio Spread `json:"pg_tide_is_times"`
	// Commits are those per second of sixteen sessions, one a slice.
	Commits []float64 `json:"commits,omitempty"`
	// CommitsMedian is their median.
	CommitsMedian float64 `json:"commits_median,omitempty"`
	// Overlap is what became of events of overlapping transactions, Killed the
	// same with kills.
	Overlap *check.Verdict `json:"overlap,omitempty"`
	Killed  *check.Verdict `json:"overlap_with_kills,omitempty"`
	// failed is why it could not be run.
	failed error
}

// Spread is a median with the least and the greatest value.
type Spread struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

// Ahead is how far ours is ahead of the fastest peer.
type Ahead struct {
	Of    string  `json:"of"`
	Times float64 `json:"times"`
}

// LeftOut is a peer that could not be run.
type LeftOut struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}

func least(values []float64) float64    { return report.Quantile(values, 0) }
func greatest(values []float64) float64 { return report.Quantile(values, 1) }

func median(values []float64) float64 { return report.Quantile(values, 0.5) }

// leaveOut moves those that could not be run to LeftOut.
func (r *Report) leaveOut() {
	for _, lines := range []*[]*Line{&r.Out, &r.In} {
		for _, l := range *lines {
			if l.failed != nil {
				r.LeftOut = append(r.LeftOut, LeftOut{Name: l.Name, Why: l.failed.Error()})
			}
		}
		*lines = slices.DeleteFunc(*lines, func(l *Line) bool { return l.failed != nil })
	}
}

// compare fills in what follows from the rates.
func (r *Report) compare() {
	r.OutAhead, r.InAhead = compareLines(r.Out), compareLines(r.In)
}

func compareLines(lines []*Line) (ahead Ahead) {
	ours, best := lines[0], 0.0
	for _, l := range lines {
		l.Median, l.LaterMedian, l.CommitsMedian = median(l.Rates), median(l.LaterRates), median(l.Commits)
		var ratios []float64
		for i := range l.Rates {
			ratios = append(ratios, ours.Rates[i]/l.Rates[i])
		}
		l.Ratio = Spread{Median: median(ratios), Low: least(ratios), High: greatest(ratios)}
		if l != ours && l.Median > best {
			best, ahead = l.Median, Ahead{Of: l.Name, Times: l.Ratio.Median}
		}
	}
	return ahead
}

// Print writes the tables.
func (r *Report) Print(out io.Writer) {
	m := r.Machine
	fmt.Fprintf(out, "\n%s, %d processors, PostgreSQL %s, NATS %s, %s, load %.1f at the start; %d rounds in %.0f seconds\n",
		m.System, m.Processors, m.PostgreSQL, m.NATS, m.Go, m.Load, r.Rounds, r.TookSeconds)
	if r.measured() {
		r.printWays(out)
	}
	if len(r.Work) > 0 {
		fmt.Fprintf(out, "\nMessages claimed and completed that ask for nothing, %d of %d B\n", r.Events, r.Size)
		table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "  \tmessages/s (spread)\tof "+r.Work[len(r.Work)-1].Name)
		for _, l := range r.Work {
			fmt.Fprintf(table, "  %s\t%s\t%.2f times (%.2f to %.2f)\n", l.Name, l.spread(), l.Ratio.Median, l.Ratio.Low, l.Ratio.High)
		}
		_ = table.Flush() // whoever reads has gone: nobody is left to tell
	}
	for _, l := range r.LeftOut {
		fmt.Fprintf(out, "left out: %s: %s\n", l.Name, l.Why)
	}
}

// measured tells whether more than the work was.
func (r *Report) measured() bool {
	return slices.ContainsFunc(slices.Concat(r.Out, r.In), func(l *Line) bool { return len(l.Rates) > 0 || len(l.Commits) > 0 || l.Overlap != nil })
}

func (r *Report) printWays(out io.Writer) {
	fmt.Fprintf(out, "\nPostgreSQL to JetStream, %d B a payload\n", r.Size)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "  \tbacklog\tevents/s (spread)\tsecond half\tpg_tide is\tcommits/s\tlost/doubled/invented/out of order of\twith kills")
	for _, l := range r.Out {
		fmt.Fprintf(table, "  %s\t%d\t%s\t%.0f\t%s\t%.0f\t%s\t%s\n", l.Name, l.Events, l.spread(), l.LaterMedian, l.times(), l.CommitsMedian, troubles(l.Overlap), troubles(l.Killed))
	}
	_ = table.Flush() // whoever reads has gone: nobody is left to tell
	fmt.Fprintf(out, "\nJetStream to PostgreSQL, %d B a payload\n", r.Size)
	table = tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "  \tbacklog\tevents/s (spread)\tpg_tide is")
	for _, l := range r.In {
		fmt.Fprintf(table, "  %s\t%d\t%s\t%s\n", l.Name, l.Events, l.spread(), l.times())
	}
	_ = table.Flush() // as above
	fmt.Fprintf(out, "\npg_tide is %.2f times the fastest peer on the way out (%s), %.2f times on the way in (%s)\n",
		r.OutAhead.Times, r.OutAhead.Of, r.InAhead.Times, r.InAhead.Of)
}

func (l *Line) spread() string {
	return fmt.Sprintf("%.0f (%.0f to %.0f)", l.Median, least(l.Rates), greatest(l.Rates))
}

func (l *Line) times() string {
	if l.Name == product {
		return ""
	}
	return fmt.Sprintf("%.2f times (%.2f to %.2f)", l.Ratio.Median, l.Ratio.Low, l.Ratio.High)
}

func troubles(v *check.Verdict) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf("%d/%d/%d/%d of %d", v.Lost, v.Doubled, v.Invented, v.Disordered, v.Wanted)
}
