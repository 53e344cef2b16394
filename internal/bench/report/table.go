package report

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Print writes the report as tables and bars for people.
func (r *Report) Print(out io.Writer) {
	m := r.Machine
	fmt.Fprintf(out, "\n%s, %d processors", m.System, m.Processors)
	if m.Processor != "" {
		fmt.Fprintf(out, " (%s)", m.Processor)
	}
	if m.Memory > 0 {
		fmt.Fprintf(out, ", %d GiB, load %.1f", m.Memory>>30, m.Load)
	}
	fmt.Fprintf(out, ", PostgreSQL %s", m.PostgreSQL)
	if m.NATS != "" {
		fmt.Fprintf(out, ", NATS %s", m.NATS)
	}
	if m.Kafka != "" {
		fmt.Fprintf(out, ", Kafka %s", m.Kafka)
	}
	fmt.Fprintln(out)
	for i := range r.Results {
		r.Results[i].print(out)
	}
	fmt.Fprintln(out, "\nRatios are medians of neighbouring runs, with the least and the greatest; they hold for this machine and these minutes.")
}

func (r *Result) print(out io.Writer) {
	fmt.Fprintf(out, "\n%s: %s\n", r.Case, r.Of)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	most := 0.0
	for i := range r.Contenders {
		most = max(most, r.Contenders[i].Median())
	}
	for i := range r.Contenders {
		c := &r.Contenders[i]
		fmt.Fprintf(table, "  %s\t%s %s\t%s\t%s\n", c.Name, number(c.Median()), r.Unit, bar(c.Median(), most), promise(c.Limit, r.Less, r.Unit))
	}
	_ = table.Flush() // whoever reads has gone: nobody is left to tell
	for _, ratio := range r.Ratios {
		text := fmt.Sprintf("  %.2f of the %s (%.2f to %.2f)", ratio.Median, ratio.To, ratio.Low, ratio.High)
		if ratio.Promised > 0 {
			text += fmt.Sprintf("; the aim is %.2f", ratio.Promised)
		}
		fmt.Fprintln(out, text)
	}
}

func promise(limit float64, less bool, unit string) string {
	switch {
	case limit == 0:
		return ""
	case less:
		return fmt.Sprintf("the aim is %s %s at most", number(limit), unit)
	}
	return fmt.Sprintf("the aim is %s %s at least", number(limit), unit)
}

// number has three significant digits or no fraction.
func number(v float64) string {
	if v >= 100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

// barWidth is the width of the longest bar, in characters.
const barWidth = 30

// bar draws a value beside the greatest one, in eighths of a character.
func bar(value, most float64) string {
	if most <= 0 {
		return ""
	}
	eighths := int(value/most*barWidth*8 + 0.5)
	text := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		text += string([]rune("▏▎▍▌▋▊▉")[rest-1])
	}
	return text
}
