package nats

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pg-tide/pg-tide/internal/message"
)

// ResumeFrom says, before Open, what the database remembers of the consumer.
func (s *Source) ResumeFrom(mark message.Mark) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resumes, s.mark = true, mark
}

// originOf names what a consumer reads for ever. Another stream of the same
// name, other subjects and another consumer are another origin: what was taken
// in of one says nothing about the other.
func originOf(stream *jetstream.StreamInfo, s *consumerSettings) string {
	return coordinatesOf(stream) + s.durable + ":" + strings.Join(slices.Sorted(slices.Values(s.filters)), ",")
}

// coordinatesOf begins the coordinates of a stream's messages. A stream that is
// deleted and made again numbers from 1 once more; its time of creation keeps a
// coordinate from naming two messages.
func coordinatesOf(stream *jetstream.StreamInfo) string {
	return "nats:" + stream.Config.Name + ":" + strconv.FormatInt(stream.Created.UnixNano(), 36) + ":"
}

// resumption compares what the broker was told with what the database has.
//
// Without it: a database is promoted, or restored, without the last messages of
// its inbox. They were acknowledged, so the broker delivers what comes after.
type resumption struct {
	conn     *connection
	stream   *jetstream.StreamInfo
	settings *consumerSettings
	mark     message.Mark
	log      *slog.Logger
}

// recover returns the consumer, set back when the database lost something.
func (r *resumption) recover(ctx context.Context, consumer jetstream.Consumer) (jetstream.Consumer, error) {
	if r.mark.Origin != originOf(r.stream, r.settings) {
		return consumer, nil
	}
	info, err := r.conn.consumerInfo(ctx, consumer)
	if err != nil {
		return nil, err
	}
	if r.settings.shared(&info.Config) {
		if r.mark.Moved {
			return nil, r.unknownLoss(info)
		}
		return consumer, nil
	}
	lost, err := r.lost(ctx, info)
	switch {
	case err != nil:
		return nil, err
	case !lost:
		return consumer, nil
	case info.NumWaiting > 0:
		// We have not asked for anything yet.
		return nil, r.readByAnother(info)
	case r.stream.Config.Retention != jetstream.LimitsPolicy || r.removed():
		return nil, r.gap(info)
	}
	r.log.Warn("the database lost messages that it had acknowledged; fetching them again", "stream", info.Stream,
		"consumer", info.Name, "after", r.mark.Sequence, "acknowledged", info.AckFloor.Stream)
	return r.rewind(ctx, consumer, info)
}

// lost says whether the broker was told of messages that the database does not
// have. The floor alone does not say so: it also passes over messages of other
// subjects, and over those that the stream has removed.
func (r *resumption) lost(ctx context.Context, info *jetstream.ConsumerInfo) (bool, error) {
	floor := &info.AckFloor
	if floor.Stream <= r.mark.Sequence || floor.Consumer == r.mark.Delivery {
		return false, nil
	}
	if r.removed() {
		return true, nil
	}
	for _, filter := range r.settings.filters {
		first, err := r.firstAfter(ctx, filter)
		if err != nil {
			return false, err
		}
		if first != 0 && first <= floor.Stream {
			return true, nil
		}
	}
	return false, nil
}

// removed says whether the stream still has what follows the mark.
func (r *resumption) removed() bool { return r.stream.State.FirstSeq > r.mark.Sequence+1 }

// firstAfter returns the sequence of the first message after the mark, or 0.
func (r *resumption) firstAfter(ctx context.Context, subject string) (uint64, error) {
	request, cancel := r.conn.request(ctx)
	defer cancel()
	stream, err := r.conn.js.Stream(request, r.stream.Config.Name)
	if err == nil {
		var found *jetstream.RawStreamMsg
		found, err = stream.GetMsg(request, r.mark.Sequence+1, jetstream.WithGetMsgSubject(subject))
		if err == nil {
			return found.Sequence, nil
		}
	}
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, nil
	}
	return 0, r.conn.explainRequest("look for messages of "+subject, r.conn.answer(request, err))
}

// rewind sets the consumer back to what follows the mark. Servers before 2.14
// cannot, nor is it allowed where the consumer began at a later message; then
// it is made anew. A crash in between leaves none, and the next session makes it.
func (r *resumption) rewind(ctx context.Context, consumer jetstream.Consumer, info *jetstream.ConsumerInfo) (jetstream.Consumer, error) {
	request, cancel := r.conn.request(ctx)
	defer cancel()
	if r.conn.atLeast(2, 14) {
		_, err := r.conn.js.ResetConsumerToSequence(request, info.Stream, info.Name, r.mark.Sequence+1)
		if err == nil {
			return consumer, nil
		}
		if !errors.Is(err, jetstream.ErrConsumerInvalidReset) {
			return nil, r.conn.explainRequest("set consumer "+info.Name+" back", r.conn.answer(request, err))
		}
	}
	anew := info.Config
	startAfter(&anew, r.mark.Sequence)
	if err := r.conn.js.DeleteConsumer(request, info.Stream, info.Name); err != nil {
		return nil, r.conn.explainRequest("set consumer "+info.Name+" back", r.conn.answer(request, err))
	}
	made, err := r.conn.js.CreateConsumer(request, info.Stream, anew)
	return made, r.conn.explainConsumer("set consumer "+info.Name+" back", info.Stream, r.settings, r.conn.answer(request, err))
}

func startAfter(cfg *jetstream.ConsumerConfig, sequence uint64) {
	cfg.DeliverPolicy, cfg.OptStartSeq, cfg.OptStartTime = jetstream.DeliverByStartSequencePolicy, sequence+1, nil
}

// baseline is the mark that holds when the session begins.
func (r *resumption) baseline(ctx context.Context, consumer jetstream.Consumer) (message.Mark, error) {
	info, err := r.conn.consumerInfo(ctx, consumer)
	if err != nil {
		return message.Mark{}, err
	}
	return message.Mark{
		Origin:   originOf(r.stream, r.settings),
		Sequence: info.AckFloor.Stream,
		Delivery: info.AckFloor.Consumer,
	}, nil
}

// stale says whether the database should be told the baseline.
func (r *resumption) stale(baseline message.Mark) bool {
	return r.mark.Moved || r.mark.Origin != baseline.Origin ||
		r.mark.Sequence != baseline.Sequence || r.mark.Delivery != baseline.Delivery
}

func (r *resumption) gap(info *jetstream.ConsumerInfo) error {
	return misconfigured("the inbox has messages of stream %s up to %d, and consumer %s was told that it has them up to %d: the database lost what lies between, and the stream has removed it (it begins at %d, retention %s); "+
		"publish those events again if their services can (pg-tide rewind), then accept the gap: pg-tide pipeline adopt %s",
		info.Stream, r.mark.Sequence, info.Name, info.AckFloor.Stream, r.stream.State.FirstSeq, r.stream.Config.Retention, r.settings.pipeline)
}

func (r *resumption) readByAnother(info *jetstream.ConsumerInfo) error {
	return misconfigured("consumer %s of stream %s has acknowledged messages up to %d that this database does not have (it has them up to %d), and somebody reads through it right now: this database is a copy, and the original lives on; "+
		"stop one of the two relays, or give this pipeline a durable_name of its own (pg-tide pipeline adopt %s goes on as the original's rival, without those messages)",
		info.Name, info.Stream, info.AckFloor.Stream, r.mark.Sequence, r.settings.pipeline)
}

func (r *resumption) unknownLoss(info *jetstream.ConsumerInfo) error {
	return misconfigured("a standby was promoted, or the database restored to a point in time, since messages of stream %s up to %d were taken in; consumer %s is shared with other databases, so what this one lost cannot be told from what went to the others; "+
		"if nothing was lost, or it was published again (pg-tide rewind): pg-tide pipeline adopt %s",
		info.Stream, r.mark.Sequence, info.Name, r.settings.pipeline)
}

// claimed says why an existing consumer belongs to another copy of this database.
func (s *consumerSettings) claimed(info *jetstream.ConsumerInfo) error {
	if s.claim == 0 || s.claimOf(&info.Config) <= s.claim {
		return nil
	}
	return misconfigured("consumer %s of stream %s was taken over by another copy of this database, whose pipeline was adopted later; "+
		"if this one is to read again: pg-tide pipeline adopt %s, else delete the pipeline here or give it another durable_name",
		info.Name, info.Stream, s.pipeline)
}

func (s *consumerSettings) claimOf(cfg *jetstream.ConsumerConfig) int64 {
	claim, err := strconv.ParseInt(cfg.Metadata[s.reader], 10, 64)
	if err != nil {
		return 0 // made by a version that wrote none
	}
	return claim
}

// claimText is what the consumer keeps of the claim; empty when there is none.
func (s *consumerSettings) claimText() string {
	if s.claim == 0 {
		return ""
	}
	return strconv.FormatInt(s.claim, 10)
}
