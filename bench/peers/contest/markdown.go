package contest

import (
	"fmt"
	"io"

	"github.com/pg-tide/pg-tide/internal/torture/check"
)

// Markdown writes the tables of docs/peers.md.
func (r *Report) Markdown(out io.Writer) {
	if r.measured() {
		r.markdownWays(out)
	}
	if len(r.Work) == 0 {
		return
	}
	fmt.Fprintf(out, "\n| no-op messages claimed and completed | backlog | messages/s (least to greatest) | of %s |\n|---|---|---|---|\n", r.Work[len(r.Work)-1].Name)
	for _, l := range r.Work {
		fmt.Fprintf(out, "| %s | %s | %s (%s to %s) | %.2f× (%.2f to %.2f) |\n", l.Name, thousands(float64(l.Events)),
			thousands(l.Median), thousands(least(l.Rates)), thousands(greatest(l.Rates)), l.Ratio.Median, l.Ratio.Low, l.Ratio.High)
	}
}

func (r *Report) markdownWays(out io.Writer) {
	fmt.Fprintln(out, "| PostgreSQL to JetStream | backlog | events/s (least to greatest) | of its second half | pg_tide is | commits/s | lost, doubled, invented, out of order | the same, killed three times |")
	fmt.Fprintln(out, "|---|---|---|---|---|---|---|---|")
	for _, l := range r.Out {
		fmt.Fprintf(out, "| %s | %s | %s (%s to %s) | %s | %s | %s | %s | %s |\n", l.title(), thousands(float64(l.Events)),
			thousands(l.Median), thousands(least(l.Rates)), thousands(greatest(l.Rates)), thousands(l.LaterMedian), l.markdownTimes(),
			thousands(l.CommitsMedian), markdownTroubles(l.Overlap), markdownTroubles(l.Killed))
	}
	fmt.Fprintln(out, "\n| JetStream to PostgreSQL | backlog | events/s (least to greatest) | pg_tide is |")
	fmt.Fprintln(out, "|---|---|---|---|")
	for _, l := range r.In {
		fmt.Fprintf(out, "| %s | %s | %s (%s to %s) | %s |\n", l.title(), thousands(float64(l.Events)),
			thousands(l.Median), thousands(least(l.Rates)), thousands(greatest(l.Rates)), l.markdownTimes())
	}
	fmt.Fprintf(out, "\npg_tide is %.2f times the fastest peer on the way out (%s) and %.2f times the fastest on the way in (%s).\n",
		r.OutAhead.Times, r.OutAhead.Of, r.InAhead.Times, r.InAhead.Of)
}

func (l *Line) title() string {
	if l.Name == product {
		return "**" + l.Name + "**"
	}
	return l.Name
}

func (l *Line) markdownTimes() string {
	if l.Name == product {
		return "–"
	}
	return fmt.Sprintf("%.2f× (%.2f to %.2f)", l.Ratio.Median, l.Ratio.Low, l.Ratio.High)
}

func markdownTroubles(v *check.Verdict) string {
	if v == nil {
		return "–"
	}
	if v.Clean() {
		return fmt.Sprintf("none of %s", thousands(float64(v.Wanted)))
	}
	text := ""
	for _, kind := range []struct {
		n    int
		what string
	}{{v.Lost, "lost"}, {v.Doubled, "doubled"}, {v.Invented, "invented"}, {v.Disordered, "out of order"}} {
		if kind.n > 0 {
			text += fmt.Sprintf("**%s %s**, ", thousands(float64(kind.n)), kind.what)
		}
	}
	return text + "of " + thousands(float64(v.Wanted))
}

// thousands writes 12345 as 12,345.
func thousands(v float64) string {
	n := int(v + 0.5)
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", thousands(float64(n/1000)), n%1000)
}
