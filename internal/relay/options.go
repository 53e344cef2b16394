package relay

import (
	"time"

	"github.com/pg-tide/pg-tide/internal/pipeline"
	"github.com/pg-tide/pg-tide/internal/retry"
)

// Options are the engine's settings. A zero field takes the default that its
// comment names.
type Options struct {
	// BatchSize is used where a pipeline's limits set none: 1000 events.
	BatchSize int
	// Window is how many sends of a forward pipeline may be unacknowledged at
	// once: 8. Together with the pages read ahead it bounds the memory.
	Window int
	// MaxAttempts is used where a pipeline's limits set none: 5.
	MaxAttempts int
	// MaxDeadLetters is used where a pipeline's limits set none: 100000.
	MaxDeadLetters int

	// HeartbeatInterval is the time between heartbeats: 1 s. With LeaseTime it
	// bounds a take-over: 8 s, and the time to open both ends.
	HeartbeatInterval time.Duration
	// LeaseTime is how long the relay may work without a heartbeat that
	// succeeded: 7 s, after which the database lets others take its pipelines.
	// Work is dropped a little before, at seven eighths of it.
	LeaseTime time.Duration
	// DrainTimeout is how long a stop may take to finish what is in flight: 5 s.
	DrainTimeout time.Duration
	// StopGrace is the same for one pipeline that changed or vanished: 500 ms.
	// What is cut off then is sent again, with the same event ids.
	StopGrace time.Duration

	// Waiting is the backoff of a pipeline whose far end or database fails:
	// 100 ms to 5 s.
	Waiting retry.Backoff
	// Mending is the backoff of a pipeline that a person has to mend: 1 s to 15 s.
	Mending retry.Backoff
	// Refusal is the backoff between attempts at one refused event: 100 ms to 1 s.
	Refusal retry.Backoff
	// SettledAfter is how long a session must live, after failures, to count
	// as recovered although no event passed: 1 s.
	SettledAfter time.Duration
	// LetterPoll is how often dead letters to be retried are looked for when
	// nobody said that there are some: 10 s.
	LetterPoll time.Duration

	// CallTimeout bounds each call to the far end or the database that is not
	// made to wait for events: 30 s.
	CallTimeout time.Duration
	// CloseTimeout bounds the end of a session, and each call when leaving: 2 s.
	CloseTimeout time.Duration
}

// withDefaults fills in what is zero.
func (o Options) withDefaults() Options {
	set(&o.BatchSize, 1000)
	set(&o.Window, 8)
	set(&o.MaxAttempts, 5)
	set(&o.MaxDeadLetters, 100_000)
	set(&o.HeartbeatInterval, time.Second)
	set(&o.LeaseTime, 7*time.Second)
	set(&o.DrainTimeout, 5*time.Second)
	set(&o.StopGrace, 500*time.Millisecond)
	backoff(&o.Waiting, 100*time.Millisecond, 5*time.Second)
	backoff(&o.Mending, time.Second, 15*time.Second)
	backoff(&o.Refusal, 100*time.Millisecond, time.Second)
	set(&o.SettledAfter, time.Second)
	set(&o.LetterPoll, 10*time.Second)
	set(&o.CallTimeout, 30*time.Second)
	set(&o.CloseTimeout, 2*time.Second)
	return o
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func backoff(b *retry.Backoff, initial, longest time.Duration) {
	if b.Initial == 0 && b.Max == 0 {
		b.Initial, b.Max, b.Jitter = initial, longest, 0.2
	}
}

// limitsOf fills in what the plan's limits leave open.
func limitsOf(l pipeline.Limits, o *Options) pipeline.Limits {
	set(&l.BatchSize, o.BatchSize)
	set(&l.MaxAttempts, o.MaxAttempts)
	set(&l.OnError, pipeline.ParkKey)
	set(&l.MaxDeadLetters, o.MaxDeadLetters)
	set(&l.Lanes, 1)
	return l
}
