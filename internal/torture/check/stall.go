package check

import (
	"slices"
	"time"
)

// Window is a time in which something was done to the bus.
type Window struct{ From, To time.Time }

// Stall is the longest time without an arrival while something waited.
type Stall struct {
	Hop    string `json:"hop"`
	Outbox string `json:"outbox"`
	// Worst counts all, Quiet only the time outside of faults.
	Worst time.Duration `json:"worst_ns"`
	Quiet time.Duration `json:"quiet_ns"`
	// From is when the quiet one began.
	From time.Time `json:"from"`
}

// Stalls finds the longest stall of a hop that the events of an outbox pass. An event waits from when relays
// could have seen it until it first arrived.
func (l *Ledger) Stalls(hop Hop, outbox string, faults []Window) Stall {
	s := Stall{Hop: hop.Name, Outbox: outbox}
	// The events in the order of their first arrival, and for each the moment
	// since when it or a later one waits.
	var at, since []time.Time
	seen := make(map[string]bool, len(hop.Arrivals))
	for _, a := range hop.Arrivals {
		if e := l.Event(a.ID); e != nil && !seen[a.ID] {
			seen[a.ID] = true
			at, since = append(at, a.At), append(since, e.available())
		}
	}
	for i := len(since) - 2; i >= 0; i-- {
		if since[i+1].Before(since[i]) {
			since[i] = since[i+1]
		}
	}
	merged := merge(faults)
	for i := range at {
		from := since[i]
		if i > 0 && at[i-1].After(from) {
			from = at[i-1]
		}
		if wait := at[i].Sub(from); wait > s.Worst {
			s.Worst = wait
		}
		if at[i].Sub(from) <= s.Quiet {
			continue
		}
		if calm, begin := longestCalm(from, at[i], merged); calm > s.Quiet {
			s.Quiet, s.From = calm, begin
		}
	}
	return s
}

// merge sorts windows and joins those that touch.
func merge(windows []Window) []Window {
	sorted := slices.Clone(windows)
	slices.SortFunc(sorted, func(a, b Window) int { return a.From.Compare(b.From) })
	var merged []Window
	for _, w := range sorted {
		if n := len(merged); n > 0 && !w.From.After(merged[n-1].To) {
			if w.To.After(merged[n-1].To) {
				merged[n-1].To = w.To
			}
			continue
		}
		merged = append(merged, w)
	}
	return merged
}

// longestCalm is the longest stretch between from and to outside the windows.
func longestCalm(from, to time.Time, windows []Window) (time.Duration, time.Time) {
	var longest time.Duration
	begin := from
	for _, w := range windows {
		if !w.To.After(from) {
			continue
		}
		if !w.From.Before(to) {
			break
		}
		if calm := w.From.Sub(from); calm > longest {
			longest, begin = calm, from
		}
		from = w.To
	}
	if calm := to.Sub(from); calm > longest {
		longest, begin = calm, from
	}
	return longest, begin
}
