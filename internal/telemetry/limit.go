package telemetry

import (
	"cmp"
	"context"
	"hash/maphash"
	"log/slog"
	"slices"
	"sync"
	"time"
)

const (
	// lineInterval is how far two lines that are the same lie apart at least.
	lineInterval = time.Second
	// mostLines bounds what is remembered of an interval. Lines beyond it go
	// through: one too many is better than one lost.
	mostLines = 4096
)

// limited is a handler that says the same line once an interval. Lines are the
// same whose message and names are; what is said of the named thing (its level,
// state, reason, error, all numbers and times) may differ, and the latest is
// the truth. So a line that comes too early is held until the interval is over,
// replaced by those that come meanwhile, and then said with the number of those
// that were not: the last word on a thing is never lost.
type limited struct {
	next    slog.Handler
	limiter *limiter
	// names and telling are of the attributes given before; group is what
	// those to come are in.
	names, telling, group string
}

// limiter is what a handler and those derived from it share.
type limiter struct {
	seed maphash.Seed

	mu    sync.Mutex
	lines map[uint64]*line
}

// line is one that was said within the last interval.
type line struct {
	timer *time.Timer
	// said is what the line told, as a hash.
	said uint64
	held *held
	// left counts the lines that were replaced by held.
	left int
}

// held is a line that waits.
type held struct {
	next    slog.Handler
	record  slog.Record
	telling uint64
}

// limit puts the limit before a handler. flush says at once what is held, for
// the end of the process.
func limit(next slog.Handler) (handler slog.Handler, flush func()) {
	l := &limiter{seed: maphash.MakeSeed(), lines: map[uint64]*line{}}
	return &limited{next: next, limiter: l}, l.flush
}

// Enabled says what the handler behind says.
func (h *limited) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

// WithAttrs returns a handler whose lines all have those attributes.
func (h *limited) WithAttrs(attributes []slog.Attr) slog.Handler {
	derived := *h
	derived.next = h.next.WithAttrs(attributes)
	for _, a := range attributes {
		derived.add(derived.group, a)
	}
	return &derived
}

// WithGroup returns a handler whose lines have their attributes in that group.
func (h *limited) WithGroup(name string) slog.Handler {
	derived := *h
	derived.next = h.next.WithGroup(name)
	derived.group += name + "."
	return &derived
}

// add sorts an attribute into what names the thing and what is told of it.
func (h *limited) add(group string, a slog.Attr) {
	value := a.Value.Resolve()
	name := group + a.Key
	switch value.Kind() {
	case slog.KindGroup:
		for _, inner := range value.Group() {
			h.add(name+".", inner)
		}
	case slog.KindString:
		text := "\x00" + name + "\x01" + value.String()
		switch a.Key {
		case "state", "reason", "error", "stack":
			h.telling += text
		default:
			h.names += text
		}
	case slog.KindAny:
		h.telling += "\x00" + name + "\x01" + value.String()
	default: // numbers and times
	}
}

// Handle says the line, or holds it.
func (h *limited) Handle(ctx context.Context, record slog.Record) error {
	about := *h
	record.Attrs(func(a slog.Attr) bool {
		about.add(h.group, a)
		return true
	})
	l := h.limiter
	key := maphash.String(l.seed, record.Message+about.names)
	telling := maphash.String(l.seed, record.Level.String()+about.telling)
	l.mu.Lock()
	defer l.mu.Unlock()
	if known := l.lines[key]; known != nil {
		if known.held != nil {
			known.left++
		}
		known.held = &held{next: h.next, record: record.Clone(), telling: telling}
		return nil
	}
	if len(l.lines) < mostLines {
		known := &line{said: telling}
		known.timer = time.AfterFunc(lineInterval, func() { l.over(key, known) })
		l.lines[key] = known
	}
	return h.next.Handle(ctx, record)
}

// over ends a line's interval: what is held is said, and begins another.
func (l *limiter) over(key uint64, known *line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.lines[key] != known: // flushed
	case known.held == nil:
		delete(l.lines, key)
	default:
		_ = known.sayHeld() // a log that cannot be written has nowhere to say so
		known.timer.Reset(lineInterval)
	}
}

// sayHeld says what is held, as of now.
func (known *line) sayHeld() error {
	said, left := known.held, known.left
	known.said, known.held, known.left = said.telling, nil, 0
	said.record.Time = time.Now()
	if left > 0 {
		said.record.AddAttrs(slog.Int("held_back", left))
	}
	return said.next.Handle(context.Background(), said.record)
}

// flush says what is held and differs from what was said, in its order.
func (l *limiter) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	var waiting []*line
	for _, known := range l.lines {
		known.timer.Stop()
		if known.held != nil && known.held.telling != known.said {
			waiting = append(waiting, known)
		}
	}
	clear(l.lines)
	slices.SortFunc(waiting, func(a, b *line) int { return cmp.Compare(a.held.record.Time.UnixNano(), b.held.record.Time.UnixNano()) })
	for _, known := range waiting {
		_ = known.sayHeld() // as above
	}
}
