package bench

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/pg-tide/pg-tide/internal/bench/world"
)

// Options say what is measured, and where.
type Options struct {
	// Cases are names of Cases; none means all but churn.
	Cases []string
	// Rounds is how often each contender runs; the first round warms up and
	// is not counted.
	Rounds int
	// Sizes are those of an event's payload, in bytes.
	Sizes []int
	// Events is how many are moved in a run.
	Events int
	// Lanes is how many a pipeline has.
	Lanes int
	// BatchSize is that of each pipeline; 0 is the default.
	BatchSize int
	// PostgresURL and NATSURL name servers to use instead of throwaway ones.
	PostgresURL, NATSURL string
	// Bus is BusNATS, which is the default, or BusKafka; Brokers are addresses
	// of a Kafka to use instead of a throwaway one.
	Bus, Brokers string
	// With is SQL that is run in each database after the schema was installed,
	// to try a change.
	With string
	// Program is the pg-tide that is measured; empty means this very program.
	Program string
	// Progress gets what is going on; Live redraws one line of it.
	Progress io.Writer
	Live     bool
}

// The buses that can be measured.
const (
	BusNATS  = "nats"
	BusKafka = "kafka"
)

// The defaults, and the least and most that makes sense.
const (
	DefaultRounds = 5
	DefaultEvents = 200_000

	leastSize   = 40
	mostSize    = 512 << 10
	leastEvents = 1000
	mostBatch   = 10_000
)

// DefaultSizes are the payloads that are measured, in bytes.
func DefaultSizes() []int { return []int{200, 1024} }

// OptionError is a wrong option: the caller's mistake.
type OptionError struct{ text string }

// Error names the option, its value and the rule.
func (e *OptionError) Error() string { return e.text }

func wrong(format string, args ...any) error { return &OptionError{fmt.Sprintf(format, args...)} }

// world is what the servers are told.
func (o *Options) world() world.Options {
	needed := slices.ContainsFunc(o.Cases, needsBroker)
	return world.Options{PostgresURL: o.PostgresURL, NATSURL: o.NATSURL, Brokers: o.Brokers,
		NATS: needed && o.Bus == BusNATS, Kafka: needed && o.Bus == BusKafka,
		With: o.With, Program: o.Program, Progress: o.Progress, Live: o.Live}
}

func needsBroker(name string) bool {
	return !slices.Contains([]string{"publish", "bulk", "inbox", "work", churnCase}, name)
}

// settle fills in the defaults and checks the rest.
func (o Options) settle() (Options, error) {
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	if o.Program == "" {
		program, err := os.Executable()
		if err != nil {
			return o, fmt.Errorf("find this program: %w", err)
		}
		o.Program = program
	}
	for _, name := range o.Cases {
		if !slices.Contains(CaseNames(), name) {
			return o, wrong("there is no case %q; the cases are %s", name, strings.Join(CaseNames(), ", "))
		}
	}
	if err := o.settleBus(); err != nil {
		return o, err
	}
	if o.Rounds < 1 || o.Rounds > 1000 {
		return o, wrong("--rounds is %d; it must be from 1 to 1000", o.Rounds)
	}
	if o.Events < leastEvents {
		return o, wrong("--events is %d; it must be %d at least", o.Events, leastEvents)
	}
	if o.Lanes < 1 || o.Lanes > 64 {
		return o, wrong("--lanes is %d; it must be from 1 to 64", o.Lanes)
	}
	if o.BatchSize < 0 || o.BatchSize > mostBatch {
		return o, wrong("--batch-size is %d; it must be from 1 to %d, or 0 for the default", o.BatchSize, mostBatch)
	}
	for _, size := range o.Sizes {
		if size < leastSize || size > mostSize {
			return o, wrong("--size is %d; it must be from %d to %d bytes", size, leastSize, mostSize)
		}
	}
	return o, nil
}

// settleBus chooses all cases of the bus where none is given.
func (o *Options) settleBus() error {
	if o.Bus == "" {
		o.Bus = BusNATS
	}
	switch {
	case o.Bus != BusNATS && o.Bus != BusKafka:
		return wrong("--bus is %q; it must be %s or %s", o.Bus, BusNATS, BusKafka)
	case o.Brokers != "" && o.Bus != BusKafka:
		return wrong("--brokers is %s, which are Kafka's, and the bus is %s; say --bus %s", o.Brokers, o.Bus, BusKafka)
	case o.NATSURL != "" && o.Bus != BusNATS:
		return wrong("--nats-url is given, and the bus is %s", o.Bus)
	}
	all := slices.DeleteFunc(CaseNames(), func(name string) bool {
		return o.Bus == BusKafka && needsBroker(name) && overKafka(name) == nil
	})
	for _, name := range o.Cases {
		if !slices.Contains(all, name) {
			return wrong("the case %s is measured over NATS alone; those over Kafka are %s", name, strings.Join(all, ", "))
		}
	}
	if len(o.Cases) == 0 {
		o.Cases = slices.DeleteFunc(all, func(name string) bool { return name == churnCase })
	}
	return nil
}
