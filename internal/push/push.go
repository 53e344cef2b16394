package push

import (
	"context"
	"time"

	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/pipeline"
	"github.com/pg-tide/pg-tide/internal/retry"
)

// Inbox is what is pushed: claims upon one inbox. All but Claim fail with
// delivery.ErrLeaseLost, having done nothing, when the token does not hold one
// of the messages any more.
type Inbox interface {
	Claim(ctx context.Context, most int, lease time.Duration) ([]message.Claimed, error)
	Complete(ctx context.Context, token string, ids []int64) error
	// Fail has the message tried again after retryIn, or after a pause of the
	// inbox's choice when that is 0; or never. It says whether it is dead now.
	Fail(ctx context.Context, token string, id int64, reason string, retryIn time.Duration, giveUp bool) (dead bool, err error)
	Extend(ctx context.Context, token string, ids []int64, lease time.Duration) error
	Release(ctx context.Context, token string, ids []int64, retryIn time.Duration) error
}

// Poster posts one event and returns nil once the service has it. Its errors
// have the verdicts of delivery.
type Poster interface {
	Open() error
	Post(ctx context.Context, e *message.Envelope) error
	Close()
	Concurrency() int
}

// Codec writes a message as the service reads it.
type Codec interface {
	Encode(m *message.Message) (message.Envelope, error)
}

// Options are the settings. A zero field takes the default that its comment names.
type Options struct {
	// Lease is how long messages are claimed for, and extended: 15 s. Those of a
	// relay that was killed wait for its end.
	Lease time.Duration
	// Poll is how often an inbox is looked into that nobody says has anything: 1 s.
	Poll time.Duration
	// CloseTimeout bounds the handing back at the end: 1 s.
	CloseTimeout time.Duration
	// Waiting is the pause after failures of the service in a row: 1 s to 30 s.
	Waiting retry.Backoff
	// Breaker pauses longer; the zero value never does.
	Breaker pipeline.CircuitBreaker
	// Clock is the machine's own.
	Clock retry.Clock
}

func (o Options) withDefaults() Options {
	fill(&o.Lease, 15*time.Second)
	fill(&o.Poll, time.Second)
	fill(&o.CloseTimeout, time.Second)
	if o.Waiting.Max == 0 {
		o.Waiting = retry.Backoff{Initial: time.Second, Max: 30 * time.Second, Jitter: 0.2}
	}
	if o.Clock == nil {
		o.Clock = retry.System{}
	}
	return o
}

func fill(field *time.Duration, value time.Duration) {
	if *field == 0 {
		*field = value
	}
}

// Pusher pushes one inbox to one service.
type Pusher struct {
	inbox   Inbox
	poster  Poster
	codec   Codec
	clock   retry.Clock
	options Options
}

// New makes a pusher; Push starts it.
func New(inbox Inbox, poster Poster, codec Codec, options Options) *Pusher {
	options = options.withDefaults()
	return &Pusher{inbox: inbox, poster: poster, codec: codec, clock: options.Clock, options: options}
}

// Push works until intake is done and what was begun has ended, or until work
// is done: then requests are cut off, and their messages are given back.
func (p *Pusher) Push(intake, work context.Context, monitor pipeline.PushMonitor) error {
	if err := p.poster.Open(); err != nil {
		return err
	}
	defer p.poster.Close()
	most := p.poster.Concurrency()
	s := &shift{
		Pusher:  p,
		monitor: monitor,
		most:    most,
		flight:  map[int64]*post{},
		results: make(chan *post, most),
		circuit: newCircuit(p.options, p.clock),
	}
	return s.run(intake, work)
}
