package relay

import (
	"time"

	"github.com/pg-tide/pg-tide/internal/retry"
)

// Options tune the engine. The zero value of each field means its default.
type Options struct {
	// HeartbeatInterval is how often ownership is renewed; 2 s.
	HeartbeatInterval time.Duration
	// LeaseTime is how long a relay may go without a heartbeat before it must
	// suppose that others own its pipelines; 8 s, as in the schema.
	LeaseTime time.Duration
	// DrainTimeout bounds a soft stop; 5 s.
	DrainTimeout time.Duration
	// ReportInterval is how often unchanged pipelines report their counters; 10 s.
	ReportInterval time.Duration
	// RetryInterval is how often dead letters are looked at without a signal
	// that somebody asked to retry some; 60 s.
	RetryInterval time.Duration
	// Window is the number of batches that may be sent and not yet acknowledged; 8.
	Window int
	// Waiting is the backoff after a failure that will pass; 100 ms to 5 s.
	Waiting retry.Backoff
	// Misconfigured is the backoff while a person has to mend something; 1 s to 15 s.
	Misconfigured retry.Backoff
}

// readAhead is the number of pages read and not yet sent, besides the one in
// the reader's hands: bounded, so that a backlog does not show in memory.
const readAhead = 1

// stateDelay gathers state changes that come together into one report.
const stateDelay = 50 * time.Millisecond

func (o Options) withDefaults() Options {
	setDuration(&o.HeartbeatInterval, 2*time.Second)
	setDuration(&o.LeaseTime, 8*time.Second)
	setDuration(&o.DrainTimeout, 5*time.Second)
	setDuration(&o.ReportInterval, 10*time.Second)
	setDuration(&o.RetryInterval, time.Minute)
	if o.Window == 0 {
		o.Window = 8
	}
	if o.Waiting.Initial == 0 {
		o.Waiting = retry.Backoff{Initial: 100 * time.Millisecond, Max: 5 * time.Second, Jitter: 0.3}
	}
	if o.Misconfigured.Initial == 0 {
		o.Misconfigured = retry.Backoff{Initial: time.Second, Max: 15 * time.Second, Jitter: 0.3}
	}
	return o
}

func setDuration(d *time.Duration, value time.Duration) {
	if *d == 0 {
		*d = value
	}
}
