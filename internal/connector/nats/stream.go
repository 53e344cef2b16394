package nats

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pg-tide/pg-tide/internal/delivery"
)

const (
	// Streams that were created here carry this mark; only they are widened.
	markKey   = "pg_tide"
	markValue = "created"
	// Each attempt that fails saw the streams change under it.
	streamAttempts = 10
)

// streamFinder finds, creates or widens the stream for some subjects.
//
// A stream is made for the first token of a subject: events.orders.* and
// events.> both lead to the stream tide-events with the subjects events and
// events.>. Two subjects that overlap have the same first token, or start
// with a wildcard and create nothing; so streams made here never overlap, and
// it does not matter which of the sinks and sources comes first.
type streamFinder struct {
	conn     *connection
	settings streamSettings
	log      *slog.Logger
	// narrow makes the stream for the whole fixed prefix instead, where a
	// stream of others is in the way of the first token.
	narrow bool
}

// find returns a stream that takes all the patterns.
func (f *streamFinder) find(ctx context.Context, patterns []string) (*jetstream.StreamInfo, error) {
	var last error
	for range streamAttempts {
		info, err := f.look(ctx, patterns)
		if err != nil {
			return nil, err
		}
		if info == nil {
			info, err = f.create(ctx, patterns)
		} else if isOurs(info) {
			info, err = f.improve(ctx, info, patterns)
		}
		switch {
		case err == nil:
			return info, nil
		case !raced(err):
			return nil, err
		}
		last = err
	}
	return nil, f.conn.explainRequest("find a stream for "+strings.Join(patterns, ", "), last)
}

// raced reports that the broker's streams changed between look and create.
func raced(err error) bool {
	return codeOf(err) == codeSubjectsOverlap || errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) || errors.Is(err, jetstream.ErrStreamNotFound)
}

// look returns the stream to use, or nil when there is none.
func (f *streamFinder) look(ctx context.Context, patterns []string) (*jetstream.StreamInfo, error) {
	if f.settings.name != "" {
		info, err := f.conn.streamInfo(ctx, f.settings.name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			return nil, nil
		}
		return info, err
	}
	found, err := f.overlapping(ctx, patterns)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	for _, info := range found {
		if coversAll(info.Config.Subjects, patterns) {
			return info, nil
		}
	}
	if len(found) == 1 && isOurs(found[0]) {
		return found[0], nil
	}
	if len(found) == 1 {
		return nil, misconfigured("stream %s takes %s, which is not all of %s; add the rest to its subjects, or name it in stream to use it as it is",
			found[0].Config.Name, strings.Join(found[0].Config.Subjects, ", "), strings.Join(patterns, ", "))
	}
	return nil, misconfigured("%s lies in several streams (%s), and a pipeline uses one; name one in stream, or make a pipeline for each",
		strings.Join(patterns, ", "), strings.Join(names(found), ", "))
}

// overlapping lists the streams that take any subject of the patterns.
func (f *streamFinder) overlapping(ctx context.Context, patterns []string) ([]*jetstream.StreamInfo, error) {
	var found []*jetstream.StreamInfo
	for _, pattern := range patterns {
		streams, err := f.conn.streamNames(ctx, pattern)
		if err != nil {
			return nil, err
		}
		for _, name := range streams {
			if slices.ContainsFunc(found, func(s *jetstream.StreamInfo) bool { return s.Config.Name == name }) {
				continue
			}
			info, err := f.conn.streamInfo(ctx, name)
			if errors.Is(err, jetstream.ErrStreamNotFound) {
				continue
			}
			if err != nil {
				return nil, err
			}
			found = append(found, info)
		}
	}
	return found, nil
}

// create makes the stream. An error for which raced holds asks to look again.
func (f *streamFinder) create(ctx context.Context, patterns []string) (*jetstream.StreamInfo, error) {
	wanted, name, err := f.plan(patterns)
	if err != nil {
		return nil, err
	}
	if !f.settings.create {
		return nil, misconfigured("no stream takes %s and create_stream is false; create it with: nats stream add %s --subjects '%s'",
			strings.Join(patterns, ", "), name, strings.Join(wanted, ","))
	}
	window := f.settings.duplicateWindow
	if window == 0 {
		window = defaultDuplicateWindow
	}
	request, cancel := f.conn.request(ctx)
	defer cancel()
	stream, err := f.conn.js.CreateStream(request, jetstream.StreamConfig{
		Name:        name,
		Description: "Events of pg_tide pipelines",
		Subjects:    wanted,
		// Limits that are never reached: to discard old messages would lose
		// what nobody has read yet, to discard new ones would stop the bus.
		Retention:  jetstream.LimitsPolicy,
		Storage:    f.settings.storage,
		Replicas:   f.settings.replicas,
		Duplicates: window,
		// Replicas have leaders that change; see orderedReceipt.
		AllowAtomicPublish: (f.settings.replicas > 1 || f.settings.atomic) && f.conn.atLeast(2, 12),
		Metadata:           map[string]string{markKey: markValue},
	})
	if err == nil {
		info := stream.CachedInfo()
		f.log.Info("stream is ready", "stream", name, "subjects", strings.Join(info.Config.Subjects, ","))
		return info, nil
	}
	err = f.conn.answer(request, err)
	if codeOf(err) == codeSubjectsOverlap {
		return nil, f.explainOverlap(ctx, name, wanted, err)
	}
	if raced(err) {
		return nil, err
	}
	return nil, f.conn.explainRequest("create stream "+name, err)
}

// explainOverlap tells apart: somebody was faster (look again), a stream of
// others is in the way of the whole first token (make a narrower one), or
// nothing helps.
func (f *streamFinder) explainOverlap(ctx context.Context, name string, wanted []string, err error) error {
	found, lookErr := f.overlapping(ctx, wanted)
	if lookErr != nil {
		return lookErr
	}
	if len(found) == 0 {
		return err
	}
	if f.settings.name == "" && !f.narrow {
		if slices.ContainsFunc(found, isOurs) {
			return err
		}
		f.narrow = true
		return err
	}
	return misconfigured("stream %s cannot be created: its subjects %s overlap those of %s; name that stream in stream, or choose other subjects",
		name, strings.Join(wanted, ", "), strings.Join(names(found), ", "))
}

// plan says which subjects a stream to be created takes, and its name.
func (f *streamFinder) plan(patterns []string) (wanted []string, name string, err error) {
	var labels []string
	for _, pattern := range patterns {
		tokens := fixedTokens(pattern)
		if len(tokens) == 0 {
			return nil, "", misconfigured("no stream takes %s, and none can be made for a subject without a fixed first token; write one, such as events.%s, or create a stream and name it in stream", pattern, pattern)
		}
		if f.settings.name == "" && !f.narrow {
			tokens = tokens[:1]
		}
		prefix := strings.Join(tokens, ".")
		if !slices.Contains(wanted, prefix) {
			wanted = append(wanted, prefix, prefix+".>")
			labels = append(labels, streamLabel(tokens))
		}
	}
	if f.settings.name != "" {
		return wanted, f.settings.name, nil
	}
	return wanted, "tide-" + strings.Join(labels, "-"), nil
}

// streamLabel makes a part of a stream's name of subject tokens.
func streamLabel(tokens []string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' || strings.ContainsRune(`.*>/\`, r) {
			return '_'
		}
		return r
	}, strings.Join(tokens, "-"))
}

// improve widens a stream of ours to take the patterns and to remember
// message ids for as long as was configured. The broker knows no conditional
// update: of two who widen at the same instant, one may undo the other. Lost
// subjects end the loser's session at its first send, and it widens again; a
// lost window comes back at the next session.
func (f *streamFinder) improve(ctx context.Context, info *jetstream.StreamInfo, patterns []string) (*jetstream.StreamInfo, error) {
	next, changed := info.Config, false
	if !coversAll(next.Subjects, patterns) {
		wanted, _, err := f.plan(patterns)
		if err != nil {
			return nil, err
		}
		kept := slices.DeleteFunc(slices.Clone(next.Subjects), func(old string) bool {
			return slices.ContainsFunc(wanted, func(w string) bool { return covers(w, old) })
		})
		kept = append(kept, slices.DeleteFunc(wanted, func(w string) bool {
			return slices.ContainsFunc(kept, func(k string) bool { return covers(k, w) })
		})...)
		next.Subjects, changed = kept, true
	}
	if f.settings.duplicateWindow > next.Duplicates {
		next.Duplicates, changed = f.settings.duplicateWindow, true
	}
	// A source that came first and was not told made the stream without.
	if f.settings.replicas > next.Replicas {
		next.Replicas, changed = f.settings.replicas, true
	}
	if (f.settings.atomic || next.Replicas > 1 || refusesSome(&next)) && !next.AllowAtomicPublish && f.conn.atLeast(2, 12) {
		next.AllowAtomicPublish, changed = true, true
	}
	if !changed {
		return info, nil
	}
	request, cancel := f.conn.request(ctx)
	defer cancel()
	stream, err := f.conn.js.UpdateStream(request, next)
	if err == nil {
		f.log.Info("stream was widened", "stream", next.Name, "subjects", strings.Join(next.Subjects, ","), "duplicate_window", next.Duplicates, "replicas", next.Replicas)
		return stream.CachedInfo(), nil
	}
	err = f.conn.answer(request, err)
	if codeOf(err) == codeSubjectsOverlap {
		found, lookErr := f.overlapping(ctx, next.Subjects)
		if lookErr != nil {
			return nil, lookErr
		}
		return nil, misconfigured("stream %s cannot be widened to %s: the subjects overlap those of %s", next.Name, strings.Join(next.Subjects, ", "),
			strings.Join(slices.DeleteFunc(names(found), func(n string) bool { return n == next.Name }), ", "))
	}
	return nil, f.conn.explainRequest("widen stream "+next.Name, err)
}

// streamInfo returns ErrStreamNotFound as it is.
func (c *connection) streamInfo(ctx context.Context, name string) (*jetstream.StreamInfo, error) {
	request, cancel := c.request(ctx)
	defer cancel()
	stream, err := c.js.Stream(request, name)
	if err == nil {
		return stream.CachedInfo(), nil
	}
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, err
	}
	return nil, c.explainRequest("look up stream "+name, c.answer(request, err))
}

func (c *connection) streamNames(ctx context.Context, subject string) ([]string, error) {
	request, cancel := c.request(ctx)
	defer cancel()
	var found []string
	lister := c.js.StreamNames(request, jetstream.WithStreamListSubject(subject))
	for name := range lister.Name() {
		found = append(found, name)
	}
	if err := lister.Err(); err != nil {
		return nil, c.explainRequest("look up the streams that take "+subject, c.answer(request, err))
	}
	return found, nil
}

func isOurs(info *jetstream.StreamInfo) bool { return info.Config.Metadata[markKey] == markValue }

func names(found []*jetstream.StreamInfo) []string {
	out := make([]string, 0, len(found))
	for _, info := range found {
		out = append(out, info.Config.Name)
	}
	return out
}

// fitsSink says why events cannot be sent to a stream.
func fitsSink(info *jetstream.StreamInfo, patterns []string, log *slog.Logger) error {
	cfg := &info.Config
	takesAny := slices.ContainsFunc(cfg.Subjects, func(s string) bool {
		return slices.ContainsFunc(patterns, func(p string) bool { return overlap(s, p) })
	})
	switch {
	case cfg.Sealed:
		return misconfigured("stream %s is sealed and takes no more events; name another in stream", cfg.Name)
	case cfg.Mirror != nil:
		return misconfigured("stream %s is a mirror of %s and takes no events itself; name %s in stream", cfg.Name, cfg.Mirror.Name, cfg.Mirror.Name)
	case !takesAny:
		return misconfigured("stream %s takes %s, and nothing of %s; add that to its subjects, or leave out stream", cfg.Name, strings.Join(cfg.Subjects, ", "), strings.Join(patterns, ", "))
	case cfg.NoAck:
		return misconfigured("stream %s acknowledges nothing (no_ack), so nobody would know what arrived; turn that off, or name another in stream", cfg.Name)
	case cfg.AllowMsgCounter:
		return misconfigured("stream %s keeps counters (allow_msg_counter) and takes no events; name another in stream", cfg.Name)
	case cfg.Retention == jetstream.InterestPolicy && info.State.Consumers == 0:
		return misconfigured("stream %s has the wrong retention: with interest and no consumer yet, an event would vanish on arrival; create a consumer first, or use a stream with retention limits", cfg.Name)
	case cfg.Discard == jetstream.DiscardNew && full(info):
		return delivery.RetryAfter(errors.New("stream "+cfg.Name+" is full and discards new messages; raise its limits or let it discard old ones"), storageRetryInterval)
	}
	warnOfLoss(cfg, log)
	return nil
}

func full(info *jetstream.StreamInfo) bool {
	cfg, state := &info.Config, &info.State
	return (cfg.MaxMsgs > 0 && state.Msgs >= uint64(cfg.MaxMsgs)) || (cfg.MaxBytes > 0 && state.Bytes >= uint64(cfg.MaxBytes))
}

// warnOfLoss logs the settings of others under which the broker may drop what
// was acknowledged and not yet read. That is their choice, and said once.
func warnOfLoss(cfg *jetstream.StreamConfig, log *slog.Logger) {
	if cfg.MaxMsgsPerSubject > 0 && cfg.Discard == jetstream.DiscardOld {
		log.Warn("stream keeps only the newest messages of a subject; unread ones may be lost", "stream", cfg.Name, "max_msgs_per_subject", cfg.MaxMsgsPerSubject)
	}
	if cfg.Discard == jetstream.DiscardOld && (cfg.MaxMsgs > 0 || cfg.MaxBytes > 0) {
		log.Warn("stream discards old messages when full; unread ones may be lost", "stream", cfg.Name, "max_msgs", cfg.MaxMsgs, "max_bytes", cfg.MaxBytes)
	}
	if cfg.Replicas > 1 && !cfg.AllowAtomicPublish {
		log.Warn("stream takes no atomic batches; order may suffer when it changes its leader (set allow_atomic, server 2.12 and newer)", "stream", cfg.Name)
	}
	if refusesSome(cfg) && !cfg.AllowAtomicPublish {
		log.Warn("stream refuses events when it is full and takes no atomic batches; to keep their order, events are sent one by one (set allow_atomic, server 2.12 and newer)", "stream", cfg.Name)
	}
	if cfg.Duplicates > 0 && cfg.Duplicates < 2*time.Second {
		log.Warn("stream forgets message ids quickly; a resend may be stored twice", "stream", cfg.Name, "duplicate_window", cfg.Duplicates)
	}
}
