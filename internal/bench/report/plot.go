package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
)

//go:embed plot.svg.tmpl
var plotTemplate string

// Sizes of the picture, in its own units.
const (
	plotWidth  = 860
	plotLabel  = 250
	plotBars   = 380
	plotRow    = 22
	plotHead   = 40
	plotMargin = 24
)

// picture is what the template draws.
type picture struct {
	Width, Height int
	Subtitle      string
	Groups        []group
}

type group struct {
	Y     int
	Title string
	Rows  []row
	Notes []note
}

type row struct {
	Y, X, Length int
	TextX        int
	Name, Text   string
	Product      bool
}

type note struct {
	Y    int
	Text string
}

// Plot draws the report as an SVG picture.
func (r *Report) Plot(out io.Writer) error {
	p := picture{Width: plotWidth, Subtitle: fmt.Sprintf("%s, %d processors, PostgreSQL %s", r.Machine.System, r.Machine.Processors, r.Machine.PostgreSQL)}
	if r.Machine.NATS != "" {
		p.Subtitle += ", NATS " + r.Machine.NATS
	}
	if r.Machine.Kafka != "" {
		p.Subtitle += ", Kafka " + r.Machine.Kafka
	}
	y := 2*plotMargin + plotHead
	for i := range r.Results {
		g, below := r.Results[i].group(y)
		p.Groups = append(p.Groups, g)
		y = below
	}
	p.Height = y
	t, err := template.New("plot").Parse(plotTemplate)
	if err != nil {
		return fmt.Errorf("read the picture's template: %w", err)
	}
	if err := t.Execute(out, p); err != nil {
		return fmt.Errorf("draw the picture: %w", err)
	}
	return nil
}

// group places a result at y, and says where the next one goes.
func (r *Result) group(y int) (group, int) {
	g := group{Y: y, Title: r.Case + ": " + r.Of}
	most := 0.0
	for i := range r.Contenders {
		most = max(most, r.Contenders[i].Median())
	}
	for i := range r.Contenders {
		c := &r.Contenders[i]
		y += plotRow
		length := 0
		if most > 0 {
			length = int(c.Median()/most*plotBars + 0.5)
		}
		g.Rows = append(g.Rows, row{Y: y, X: plotLabel, Length: length, TextX: plotLabel + length + 8, Name: c.Name,
			Text: number(c.Median()) + " " + r.Unit, Product: i == len(r.Contenders)-1 && len(r.Ratios) > 0})
	}
	for _, ratio := range r.Ratios {
		y += plotRow
		g.Notes = append(g.Notes, note{Y: y, Text: fmt.Sprintf("%.2f of the %s (%.2f to %.2f)", ratio.Median, ratio.To, ratio.Low, ratio.High)})
	}
	return g, y + plotHead
}
