package plan

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Fault is one fault of a schedule.
type Fault struct {
	// At is when it begins, counted from the begin of the traffic.
	At   time.Duration `json:"at_ns"`
	Kind Kind          `json:"kind"`
	// For is how long it lasts; a killed process is away for that long.
	For time.Duration `json:"for_ns"`
	// Service, Relay and Owner choose the target: a number taken modulo what
	// there is. Owner prefers the relay that owns the service's pipelines.
	Service int  `json:"service"`
	Relay   int  `json:"relay"`
	Owner   bool `json:"owner"`
	// Amount is a number that kinds use as they like: a delay in
	// milliseconds, a batch size, whose backends are killed.
	Amount int `json:"amount"`
}

// String is the fault in one line.
func (f Fault) String() string {
	whom := fmt.Sprintf("service %d relay %d", f.Service, f.Relay)
	if f.Owner {
		whom = fmt.Sprintf("service %d owner", f.Service)
	}
	return fmt.Sprintf("%8.2fs  %-16s %-20s for %6.2fs  amount %d", f.At.Seconds(), f.Kind, whom, f.For.Seconds(), f.Amount)
}

// Options say what to draw.
type Options struct {
	Seed uint64
	// For is the length of the traffic.
	For time.Duration
	// Kinds are the faults to draw from; those that do not come and go are left out.
	Kinds []Kind
	// Every is the mean time between two faults.
	Every time.Duration
	// Services and Relays are how many there are.
	Services, Relays int
}

const (
	// warmUp is left in peace, so that there is something to disturb.
	warmUp = 2 * time.Second
	// calm is left at the end, so that a fault hits traffic.
	calm = 2 * time.Second
)

// Draw draws the schedule. Kinds come from a shuffled deck, so that each of
// them turns up before one turns up again.
func Draw(o Options) []Fault {
	random := rand.New(rand.NewPCG(o.Seed, 0x746964652d746f72))
	var kinds []Kind
	for _, kind := range Scheduled() {
		if slices.Contains(o.Kinds, kind) {
			kinds = append(kinds, kind)
		}
	}
	if len(kinds) == 0 || o.Every <= 0 {
		return nil
	}
	var deck []Kind
	var faults []Fault
	for at := warmUp; ; {
		at += time.Duration(float64(o.Every) * (0.25 + 1.5*random.Float64()))
		if at > o.For-calm {
			return faults
		}
		if len(deck) == 0 {
			deck = slices.Clone(kinds)
			random.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
		}
		kind := deck[0]
		deck = deck[1:]
		length := lasting(kind)
		faults = append(faults, Fault{
			At:      at.Round(10 * time.Millisecond),
			Kind:    kind,
			For:     (length.from + time.Duration(random.Float64()*float64(length.to-length.from))).Round(10 * time.Millisecond),
			Service: random.IntN(max(o.Services, 1)),
			Relay:   random.IntN(max(o.Relays, 1)),
			Owner:   random.IntN(4) > 0,
			Amount:  1 + random.IntN(1000),
		})
	}
}

// Text is a schedule for people, a fault a line.
func Text(faults []Fault) string {
	var b strings.Builder
	for _, f := range faults {
		fmt.Fprintln(&b, f)
	}
	return b.String()
}
