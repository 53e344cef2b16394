package torture

import (
	"debug/buildinfo"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pg-tide/pg-tide/internal/process"
	"github.com/pg-tide/pg-tide/internal/throwaway"
	"github.com/pg-tide/pg-tide/internal/torture/disk"
	"github.com/pg-tide/pg-tide/internal/torture/plan"
	"github.com/pg-tide/pg-tide/internal/torture/world"
)

// Options say what is tortured, and how hard.
type Options struct {
	// For is how long there is traffic; setting up and judging come on top.
	For time.Duration
	// Seed decides all that is drawn; 0 takes one from the clock.
	Seed uint64
	// Faults is a list as plan.Parse reads it; empty means all.
	Faults string
	// Every is the mean time between two faults.
	Every time.Duration
	// Postgres is a major version, "oldest", "newest", or the folder of a
	// server's programs; empty takes what is on the machine, else the newest.
	Postgres string
	// Bus is what is tortured with it: nats, which is the default, or kafka.
	Bus string
	// Lanes is how many each pipeline has.
	Lanes int
	// Pipelines is how many the service orders has; all but one are idle.
	Pipelines int
	// Retention is that of the outboxes, and a fifth of the inboxes'; 0 leaves
	// the defaults, which no torture is long enough to see.
	Retention time.Duration
	// Writers is how many sessions publish, Rate how many events a second
	// they aim at together.
	Writers, Rate int
	// Dir gets logs, ledgers and the report. Empty makes a temporary one,
	// which is removed when nothing was wrong.
	Dir string
	// Patience is how long nothing may move at the end before what is missing
	// counts as lost.
	Patience time.Duration
	// Program is the pg-tide that is tortured; empty means this very program.
	// Environment is added for its relays.
	Program     string
	Environment []string
	// Out gets the progress; Live redraws one line instead of adding lines.
	Out  io.Writer
	Live bool
}

// The defaults, and the least that makes sense.
const (
	DefaultFor     = 3 * time.Minute
	DefaultEvery   = 3 * time.Second
	DefaultWriters = 24
	DefaultRate    = 600

	shortest        = 5 * time.Second
	defaultPatience = 60 * time.Second
	relaysEach      = 2
	mostWriters     = 100
	mostLanes       = 64
	mostPipelines   = 200
)

// OptionError is a wrong option: the caller's mistake.
type OptionError struct{ text string }

// Error names the option, its value and the rule.
func (e *OptionError) Error() string { return e.text }

func wrong(format string, args ...any) error { return &OptionError{fmt.Sprintf(format, args...)} }

// settled is the options once they have been understood.
type settled struct {
	Options
	kinds []plan.Kind
	// leftOut says why faults that were asked for are left out.
	leftOut map[plan.Kind]string
	major   int
	fetched bool
	binDir  string
	// temporary says that Dir is ours to remove.
	temporary bool
}

func (o Options) settle() (settled, error) {
	if o.For == 0 {
		o.For = DefaultFor
	}
	if o.Every == 0 {
		o.Every = DefaultEvery
	}
	if o.Writers == 0 {
		o.Writers = DefaultWriters
	}
	if o.Rate == 0 {
		o.Rate = DefaultRate
	}
	if o.Patience == 0 {
		o.Patience = defaultPatience
	}
	if o.Seed == 0 {
		o.Seed = uint64(time.Now().UnixMilli())
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	if o.Bus == "" {
		o.Bus = world.BusNATS
	}
	o.Lanes, o.Pipelines = max(o.Lanes, 1), max(o.Pipelines, 1)
	s := settled{Options: o}
	if err := s.check(); err != nil {
		return s, err
	}
	kinds, err := plan.Parse(o.Faults)
	if err != nil {
		return s, wrong("--faults is %q: %v", o.Faults, err)
	}
	if s.Program == "" {
		if s.Program, err = os.Executable(); err != nil {
			return s, fmt.Errorf("find this program: %w", err)
		}
	}
	s.leaveOut(kinds)
	return s, s.makeDir()
}

// leaveOut leaves out the faults that cannot be had here, and says why.
func (s *settled) leaveOut(kinds []plan.Kind) {
	s.leftOut = map[plan.Kind]string{}
	for _, kind := range kinds {
		switch {
		case kind == plan.RelayFreeze && !process.CanFreeze:
			s.leftOut[kind] = "this system cannot stop a process and let it go on"
		case kind == plan.RelayClock && !clockCanBeSet(s.Program):
			s.leftOut[kind] = "the wall clock of this program cannot be set; `make torture` builds one where it can"
		case kind == plan.BrokerFull && s.Bus == world.BusKafka:
			s.leftOut[kind] = "Kafka has no limit at which it refuses more"
		case kind == plan.BrokerDisk && s.Bus == world.BusKafka:
			s.leftOut[kind] = "Kafka ends when its disk is full, as broker-kill has it"
		case kind == plan.BrokerDisk && diskProblem() != nil:
			s.leftOut[kind] = fmt.Sprintf("NATS cannot have a disk of its own: %v", diskProblem())
		default:
			s.kinds = append(s.kinds, kind)
		}
	}
}

// diskProblem says why the broker cannot have a disk that is full at times.
func diskProblem() error {
	d, err := disk.New(1 << 20)
	if err != nil {
		return err
	}
	d.Close()
	return nil
}

// clockCanBeSet says whether a program was built with the clock of
// internal/torture/clock.
func clockCanBeSet(program string) bool {
	info, err := buildinfo.ReadFile(program)
	return err == nil && slices.ContainsFunc(info.Settings, func(s debug.BuildSetting) bool {
		return s.Key == "-tags" && slices.Contains(strings.Split(s.Value, ","), "tide_clock")
	})
}

func (s *settled) check() error {
	switch {
	case s.For < shortest:
		return wrong("--for is %s: at least %s are needed to see anything", s.For, shortest)
	case s.Every < 100*time.Millisecond:
		return wrong("--every is %s: it must be at least 100ms", s.Every)
	case s.Writers < 1 || s.Writers > mostWriters:
		return wrong("--writers is %d: it must be from 1 to %d", s.Writers, mostWriters)
	case s.Rate < 1:
		return wrong("--rate is %d: it must be at least 1", s.Rate)
	case s.Lanes > mostLanes:
		return wrong("--lanes is %d: it must be from 1 to %d", s.Lanes, mostLanes)
	case s.Pipelines > mostPipelines:
		return wrong("--pipelines is %d: it must be from 1 to %d", s.Pipelines, mostPipelines)
	case s.Bus != world.BusNATS && s.Bus != world.BusKafka:
		return wrong("--bus is %q: it must be %s or %s", s.Bus, world.BusNATS, world.BusKafka)
	case s.Retention != 0 && s.Retention < time.Minute:
		return wrong("--retention is %s: at least a minute is allowed", s.Retention)
	case runtime.GOOS == "windows":
		return wrong("the torture runs on Unix alone: it stops and continues processes")
	}
	switch s.Postgres {
	case "":
	case "oldest":
		s.major, s.fetched = throwaway.Oldest, true
	case "newest":
		s.major, s.fetched = throwaway.Newest, true
	default:
		major, err := strconv.Atoi(s.Postgres)
		if err != nil {
			s.binDir = s.Postgres
			if _, err := os.Stat(filepath.Join(s.binDir, "postgres")); err != nil {
				return wrong("--postgres is %q: give a version from %d to %d, oldest, newest, or the folder that holds the program postgres",
					s.Postgres, throwaway.Oldest, throwaway.Newest)
			}
			return nil
		}
		if major < throwaway.Oldest || major > throwaway.Newest {
			return wrong("--postgres is %d: only %d to %d are supported", major, throwaway.Oldest, throwaway.Newest)
		}
		s.major = major
	}
	return nil
}

func (s *settled) makeDir() error {
	if s.Dir == "" {
		dir, err := os.MkdirTemp("", "pg-tide-torture-")
		if err != nil {
			return fmt.Errorf("make a folder for the torture: %w", err)
		}
		s.Dir, s.temporary = dir, true
		return nil
	}
	dir, err := filepath.Abs(s.Dir)
	if err != nil {
		return fmt.Errorf("find %s: %w", s.Dir, err)
	}
	s.Dir = dir
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make %s: %w", dir, err)
	}
	left, err := os.ReadDir(dir)
	if err == nil && len(left) > 0 {
		return wrong("--dir is %s, which is not empty: give a new folder", dir)
	}
	return err
}
