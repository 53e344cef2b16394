// Package pipeline says what a pipeline is: its specification as the catalog
// has it, its limits, and what it reports about itself. It refuses to run one.
package pipeline

import "time"

// Direction of a pipeline.
type Direction string

// The two directions, spelled as in tide.pipeline.
const (
	Forward Direction = "forward"
	Reverse Direction = "reverse"
)

// Policy says what becomes of an event that its sink or inbox refuses.
type Policy string

// The policies, spelled as in the configuration.
const (
	Block      Policy = "block"
	ParkKey    Policy = "park_key"
	DeadLetter Policy = "dead_letter"
)

// Spec is one configured pipeline as the catalog has it, claimed by this relay.
type Spec struct {
	ID        int64
	Name      string
	Direction Direction
	// Endpoint is the outbox's or inbox's name.
	Endpoint   string
	EndpointID int64
	// DatabaseID is the id of the database that the pipeline lives in.
	DatabaseID string
	// Config is the configuration as the user wrote it, JSON, secrets unresolved.
	Config []byte
	// Version grows with every change of the configuration.
	Version int64
	// Fence is this relay's number for its ownership; saves with an older one are refused.
	Fence int64
	// Surplus says that it is more than this relay's share: to be stopped and given up.
	Surplus bool
	// Letters says that the pipeline has dead letters.
	Letters bool
}

// Limits are the settings that every pipeline has.
type Limits struct {
	// BatchSize is the number of events read, sent or inserted at once.
	BatchSize int
	// MaxAttempts is how often a refused event is tried before the policy applies.
	MaxAttempts int
	OnError     Policy
	// MaxDeadLetters is how many dead letters the pipeline may have before it blocks.
	MaxDeadLetters int
	// Lanes is how many workers share the pipeline's keys.
	Lanes int
	// RateLimit bounds how fast events go out; the zero value sets no bound.
	RateLimit RateLimit
	// CircuitBreaker pauses a pipeline whose far end keeps failing; the zero value never does.
	CircuitBreaker CircuitBreaker
}

// RateLimit bounds the events of a pipeline per second.
type RateLimit struct {
	// PerSecond is the sustained rate; 0 means unlimited.
	PerSecond float64
	// Burst is how many may go at once after a quiet time; at least 1 counts.
	Burst int
}

// CircuitBreaker pauses a pipeline after failures in a row. It never dead-letters.
type CircuitBreaker struct {
	// FailureThreshold is the number of failures in a row that opens the circuit; 0 means never.
	FailureThreshold int
	// Open is how long nothing is tried once the circuit is open.
	Open time.Duration
}

// State of a pipeline as the status shows it.
type State string

// The states, spelled as in tide.relay_status. The view adds paused and
// unowned, which no relay can report.
const (
	StateStarting      State = "starting"
	StateRunning       State = "running"
	StateWaiting       State = "waiting"       // for the broker or the database
	StateBlocked       State = "blocked"       // by an event, named in the reason
	StateMisconfigured State = "misconfigured" // a person has to mend something
	StateStopped       State = "stopped"
)

// Report is what a pipeline says about itself.
type Report struct {
	PipelineID int64
	Fence      int64
	State      State
	// Reason says in words why nothing moves; empty when all is well.
	Reason string
	// LastError and LastErrorAt survive recovery.
	LastError   string
	LastErrorAt time.Time
	// Delivered, Filtered and Failed count events since this relay started the pipeline.
	Delivered, Filtered, Failed int64
	// Circuit is the state of the circuit breaker: closed, open or half_open;
	// empty where there is none.
	Circuit string
	// Pushed, PushFailed and PushDead count the messages of the inbox that a
	// service took, the attempts that failed, and the dead letters.
	Pushed, PushFailed, PushDead int64
	// RatePerSecond is the recent rate of delivered events.
	RatePerSecond float64
	// Lag is how many messages a reverse pipeline's source has left, as it last
	// said; LagKnown is false where it never did.
	Lag      int64
	LagKnown bool
}
