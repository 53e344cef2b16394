package report_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/pg-tide/pg-tide/internal/bench/report"
)

// sample has a yardstick that was twice as fast in two rounds of three.
func sample() report.Report {
	yardstick := report.Contender{Name: "loop <by hand>", Values: []float64{100, 400, 50}}
	product := report.Contender{Name: "pg_tide", Values: []float64{50, 200, 100}}
	return report.Report{Machine: report.ThisMachine(), Results: []report.Result{
		report.Compare("forward", "200 B", "events/s", product, yardstick.Beside(0.9)),
		{Case: "idle", Of: "no events", Unit: "MiB", Less: true, Contenders: []report.Contender{{Name: "resident", Values: []float64{38.25}, Limit: 60}}},
	}}
}

func TestRatiosAreThoseOfTheSameRound(t *testing.T) {
	ratio := sample().Results[0].Ratios[0]
	if want := []float64{0.5, 0.5, 2}; !slices.Equal(ratio.Values, want) {
		t.Errorf("ratios are %v, want %v", ratio.Values, want)
	}
	if ratio.Median != 0.5 || ratio.Low != 0.5 || ratio.High != 2 || ratio.To != "loop <by hand>" || ratio.Promised != 0.9 {
		t.Errorf("the ratio is %+v", ratio)
	}
}

func TestQuantilesAreValuesThatWereMeasured(t *testing.T) {
	values := []float64{5, 1, 4, 2, 3}
	for q, want := range map[float64]float64{0: 1, 0.5: 3, 1: 5, 0.99: 5} {
		if got := report.Quantile(values, q); got != want {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if !slices.Equal(values, []float64{5, 1, 4, 2, 3}) {
		t.Error("the values were sorted in place")
	}
}

func TestTheTableNamesRatioSpreadAndAim(t *testing.T) {
	var out bytes.Buffer
	r := sample()
	r.Print(&out)
	for _, want := range []string{
		"forward: 200 B", "100 events/s", "0.50 of the loop <by hand> (0.50 to 2.00); the aim is 0.90",
		"38.2 MiB", "the aim is 60 MiB at most",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, out.String())
		}
	}
}

func TestThePictureIsWellFormedAndHoldsEveryResult(t *testing.T) {
	var out bytes.Buffer
	r := sample()
	if err := r.Plot(&out); err != nil {
		t.Fatal(err)
	}
	text := ""
	for decoder := xml.NewDecoder(&out); ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("the picture is not XML: %v", err)
		}
		if c, ok := token.(xml.CharData); ok {
			text += string(c) + "\n"
		}
	}
	for _, want := range []string{"forward: 200 B", "loop <by hand>", "0.50 of the loop <by hand>", "38.2 MiB"} {
		if !strings.Contains(text, want) {
			t.Errorf("the picture lacks %q:\n%s", want, text)
		}
	}
}

// What fell by less than 40 % is noise; what was not measured is no success.
func TestWhatFellFarBehindAnEarlierReportIsNamed(t *testing.T) {
	earlier := sample()
	now := sample()
	if fallen := now.Below(&earlier); len(fallen) > 0 {
		t.Errorf("the same report has fallen behind itself: %q", fallen)
	}
	ratio := &now.Results[0].Ratios[0]
	ratio.High = 0.31
	now.Results[1].Contenders[0].Values = []float64{90, 63}
	if fallen := now.Below(&earlier); len(fallen) > 0 {
		t.Errorf("named although it is within 40 %%: %q", fallen)
	}
	ratio.High = 0.29
	now.Results[1].Contenders[0].Values = []float64{90, 64}
	want := []string{"forward, 200 B: 0.29 of the loop <by hand> at best, and it was 0.50", "idle, no events: resident 64 MiB at best, and it was 38.2"}
	if fallen := now.Below(&earlier); !slices.Equal(fallen, want) {
		t.Errorf("named %q, want %q", fallen, want)
	}
	now.Results = now.Results[:1]
	if fallen := now.Below(&earlier); len(fallen) != 2 || !strings.Contains(fallen[1], "not measured") {
		t.Errorf("named %q", fallen)
	}
}
