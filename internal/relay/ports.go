package relay

import (
	"context"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/pipeline"
)

// Reader reads an outbox. Between Open and the next Open it keeps its place
// in memory and reads ahead of what was saved.
type Reader interface {
	// Open forgets everything held in memory and reads the saved position
	// again. A session starts with it.
	Open(ctx context.Context) error
	// Read returns the next page of at most limit events. It waits until
	// there is one; an empty page is never returned without an error. What it
	// returns survives a crash of the database: it was committed, and flushed.
	// A reader that keeps transactions whole may return more, see Keeper.
	Read(ctx context.Context, limit int) (message.Page, error)
	// Save makes the position durable. It runs beside Read. The engine saves
	// one position at a time, in order, but skips some: under load only the
	// newest acknowledged one is saved, so the reader numbers the saves itself,
	// when it makes them. It fails with the verdict superseded when another
	// relay owns the pipeline.
	Save(ctx context.Context, position message.Position) error
}

// Keeper is a second power of a Reader: it can keep transactions whole.
type Keeper interface {
	// KeepTransactions makes Read return all events of a transaction in one page,
	// one behind the other, unless they are more than limit or too many
	// bytes: then each comes by itself, and its Transaction is parted. Called
	// before the first Open.
	KeepTransactions(limit int)
}

// Sink is the far end of a forward pipeline.
type Sink interface {
	// Open connects and makes sure that the far end can take events. When it
	// returns nil the sink has started.
	Open(ctx context.Context) error
	// Send hands over envelopes in order and returns before they are
	// acknowledged. An envelope that the sink can see will never be taken
	// (too large) is refused with *delivery.Partial before anything of the
	// batch was sent, so that order survives whatever the policy decides. When
	// an envelope is lost on its way, and not refused, nothing sent after it may
	// be stored before the next Open: the engine resends from there, and what
	// was stored behind the gap would stay in front of it.
	Send(ctx context.Context, envelopes []message.Envelope) (delivery.Receipt, error)
	// Close drops the connection; unacknowledged envelopes are forgotten.
	Close(ctx context.Context) error
}

// Witness is a second power of a Sink: it can tell whether the far end lost
// something that it had acknowledged, and so must be sent again.
type Witness interface {
	// Mark says how far the far end has got with everything whose receipt's
	// Wait has returned, as JSON; empty when there is nothing to tell by. It is
	// saved with the position.
	Mark() string
	// Prove compares the far end with a mark of this or an earlier session. It
	// is asked between Open and the first Send, for newer marks before older
	// ones; the first that holds is what later marks build upon.
	Prove(ctx context.Context, mark string) (delivery.Proof, error)
}

// Watcher is a second power of a Sink: it notices that the connection is lost
// while nothing is sent. Without it an idle pipeline would find out only with
// its next event, and an event that the far end lost would wait for that.
type Watcher interface {
	// Watch returns an error once the connection of the session is lost, and
	// nil when ctx is done.
	Watch(ctx context.Context) error
}

// Patient is a second power of a sink's receipt: everything that its Wait waits
// for has a bound of its own, so the engine sets none to the whole, which may
// be a request for each event. The engine calls Wait once Ready is closed, and
// sends nothing between its return and having taken in what it said: so a sink
// that holds events behind a refused one of their key (delivery.Held) may let
// go of the key with Wait.
type Patient interface{ Ready() <-chan struct{} }

// Remarker is a second power of a Sink: it can say that it does less than was
// asked of it.
type Remarker interface {
	// Remark says in words what that is since the last Open; empty when there
	// is nothing to say. The status shows it while the pipeline runs.
	Remark() string
}

// Rewinder is a second power of a Reader: it can go back to what it saved before.
type Rewinder interface {
	// Marked returns the newest saved positions that have a mark, newest
	// first; all of them when limit is 0.
	Marked(ctx context.Context, limit int) ([]message.Saved, error)
	// Rewind saves what the position of that sequence said as the newest one,
	// forgets those between, and goes on reading from there: what was delivered
	// since is read again. Sequence 0 stands for the oldest event retained.
	Rewind(ctx context.Context, sequence int64) error
}

// Source is the far end of a reverse pipeline.
type Source interface {
	// Open connects, creates what is missing and makes sure that what an
	// earlier session left unacknowledged is delivered again before anything later.
	Open(ctx context.Context) error
	// Fetch waits until there is something, at most limit envelopes.
	Fetch(ctx context.Context, limit int) (message.Delivery, error)
	// Close drops the connection; what was not acknowledged will come again.
	Close(ctx context.Context) error
}

// Inbox is the near end of a reverse pipeline.
type Inbox interface {
	// Insert is safe for concurrent calls, whose messages never share a key. It
	// makes messages durable in one transaction, in order, and returns
	// how many were new: those whose event id is known are skipped. It fails
	// with *delivery.Partial (nothing inserted) naming the messages that can
	// never be inserted, and with the verdict superseded when another relay
	// owns the pipeline.
	Insert(ctx context.Context, messages []message.Message) (inserted int, err error)
}

// Closer is a second power of a Reader or an Inbox: the engine calls it at the
// end of every session, so that connections and locks held for the session go.
type Closer interface {
	Close(ctx context.Context) error
}

// Marker is a second power of an Inbox: its database remembers how far the
// source was taken in, so that the source can be asked again for what the
// database lost.
type Marker interface {
	// Mark returns what is remembered. A session starts with it.
	Mark(ctx context.Context) (message.Mark, error)
	// SaveMark makes a mark durable. The engine calls it after everything up to
	// there is, in order, and before it is acknowledged to the source.
	SaveMark(ctx context.Context, mark message.Mark) error
}

// MarkedInserter is a second power of a Marker.
type MarkedInserter interface {
	// InsertMarked is Insert that makes mark durable in the same transaction,
	// so that the disk is waited for once. The engine never calls it beside
	// SaveMark or itself.
	InsertMarked(ctx context.Context, messages []message.Message, mark message.Mark) (inserted int, err error)
}

// Resumer is a second power of a Source, whose messages have lasting numbers.
type Resumer interface {
	// ResumeFrom says, before Open, what the database remembers. Open then
	// makes sure that whatever comes after is delivered, even if it was
	// acknowledged before, or fails and says what is missing.
	ResumeFrom(mark message.Mark)
}

// Backlogger is a second power of a Source: it knows how much is left.
type Backlogger interface {
	// Backlog says how many messages the source has, or has handed over, that
	// are not acknowledged; known is false while it cannot tell. It answers from
	// memory, at any time, and after Close too.
	Backlog() (messages int64, known bool)
}

// Codec is a wire format. Both ways fail with the verdict reject.
type Codec interface {
	Encode(m *message.Message) (message.Envelope, error)
	Decode(e *message.Envelope) (message.Message, error)
}

// Splitter is a codec that knows envelopes which hold several events.
type Splitter interface {
	// Split returns an envelope for each event, with coordinates of its own,
	// and false for an envelope that holds one.
	Split(e *message.Envelope) ([]message.Envelope, bool)
}

// Change filters or rewrites one message: it sets fields of m, and never
// writes into the bytes that they point to, for the engine keeps a copy of the
// original. It fails with the verdict reject when the expression fails on this
// message.
type Change interface {
	Apply(m *message.Message) (keep bool, err error)
}

// DeadLetters keeps what could not be delivered.
type DeadLetters interface {
	// Add stores the letters durably; adding one again (same event id, or same
	// coordinates) changes its error and attempts only, and nothing when it was
	// never attempted (parked) this time.
	Add(ctx context.Context, letters []message.DeadLetter) error
	// Due returns letters that somebody asked to retry, oldest first. In order,
	// as the policy park_key has it, none is due behind a letter of its key
	// that holds the key and that nobody asked to retry, and one that was never
	// attempted is due without being asked for once no other holds its key up.
	Due(ctx context.Context, limit int, inOrder bool) ([]message.DeadLetter, error)
	// Settle removes a letter that was delivered (err nil), or puts it back
	// with the new error and one more attempt.
	Settle(ctx context.Context, id int64, err error) error
	// Held returns the keys, each once, of all letters of the pipeline that
	// hold their key, asked to retry or not. Only the policy park_key reads it.
	Held(ctx context.Context) ([]message.HeldKey, error)
	// Count returns how many letters of the pipeline there are.
	Count(ctx context.Context) (int, error)
}

// Pusher hands on what an inbox holds, beside the sessions that fill it. It
// outlives their failures: a source that is away does not hold up what arrived.
type Pusher interface {
	// Push works until intake is done, finishes what it has begun and gives
	// back the rest; when work is done it drops what it has begun, and gives
	// back that as well.
	Push(intake, work context.Context, monitor pipeline.PushMonitor) error
}

// Plan is a pipeline made ready to run: built from a Spec, nothing connected yet.
type Plan struct {
	Spec   pipeline.Spec
	Limits pipeline.Limits
	// FarEnd is what reasons call the far end, such as "the service"; "the
	// broker" where it is empty.
	FarEnd      string
	Codec       Codec
	Changes     []Change
	DeadLetters DeadLetters
	// Reader and Sink are set for a forward pipeline, Source and Inbox for a reverse one.
	Reader Reader
	Sink   Sink
	// LaneSinks are the sinks of the lanes behind the first, each with a
	// connection of its own.
	LaneSinks []Sink
	Source    Source
	Inbox     Inbox
	// Pusher is set for a reverse pipeline whose inbox is pushed on.
	Pusher Pusher
}

// Builder turns a spec into a plan: decodes the configuration strictly,
// resolves secrets, compiles expressions. It does no network. Its errors have
// the verdict misconfigured.
type Builder interface {
	Build(ctx context.Context, spec pipeline.Spec) (Plan, error)
}

// Registry is the relay's view of the catalog: which pipelines it owns.
type Registry interface {
	// Heartbeat says that this relay lives, claims its fair share of the
	// enabled pipelines that nobody alive owns, and returns all that it owns
	// now; what is more than its share is marked as surplus.
	Heartbeat(ctx context.Context) ([]pipeline.Spec, error)
	// Changed delivers a signal, never blocking the sender, when some
	// configuration or ownership may have changed: heartbeat at once.
	Changed() <-chan struct{}
	// Report stores what pipelines say about themselves.
	Report(ctx context.Context, reports []pipeline.Report) error
	// Release gives up ownership of one pipeline after it has stopped, so that others take it at once.
	Release(ctx context.Context, pipelineID, fence int64) error
	// Leave gives up everything; the relay is going.
	Leave(ctx context.Context) error
}
