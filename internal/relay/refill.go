package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
)

// refill makes a far end whole that lost what it had acknowledged: a broker
// that was restored, or that lost power before its files were synced. It goes
// back to the newest saved position for which the far end still has everything,
// and the session sends again from there. Where a sink can tell nothing,
// nothing is concluded.
func (f *forward) refill(ctx context.Context) error {
	witness, tells := f.plan.Sink.(Witness)
	reader, goesBack := f.plan.Reader.(Rewinder)
	if !tells || !goesBack {
		return nil
	}
	newest, err := f.marked(ctx, reader, 1)
	if err != nil || len(newest) == 0 {
		return err
	}
	proof, err := f.prove(ctx, witness, newest[0].Mark)
	if err != nil || proof.Lost == "" {
		return err
	}
	back, err := f.newestThatHolds(ctx, witness, reader)
	if err != nil {
		return err
	}
	err = f.call(ctx, database, "go back to an earlier position", func(ctx context.Context) error {
		return reader.Rewind(ctx, back.Sequence)
	})
	if err != nil {
		return err
	}
	from := "everything that the outbox retains is sent again"
	if back.Sequence > 0 {
		from = fmt.Sprintf("what was sent since %s is sent again", back.At.UTC().Format("2006-01-02 15:04:05 MST"))
	}
	f.health.note(errors.New(proof.Lost + "; " + from))
	return nil
}

// newestThatHolds looks for a position to go back to; the zero value when there is none.
func (f *forward) newestThatHolds(ctx context.Context, witness Witness, reader Rewinder) (message.Saved, error) {
	saved, err := f.marked(ctx, reader, 0)
	if err != nil {
		return message.Saved{}, err
	}
	asked := ""
	for _, s := range saved {
		if s.Mark == asked {
			continue
		}
		asked = s.Mark
		proof, err := f.prove(ctx, witness, s.Mark)
		if err != nil {
			return message.Saved{}, err
		}
		if proof.Holds {
			return s, nil
		}
	}
	return message.Saved{}, nil
}

func (f *forward) marked(ctx context.Context, reader Rewinder, limit int) (saved []message.Saved, err error) {
	err = f.call(ctx, database, "read earlier positions", func(ctx context.Context) error {
		saved, err = reader.Marked(ctx, limit)
		return err
	})
	return saved, err
}

// prove asks the first lane's sink: all of them have one far end. A mark of
// several lanes holds when each of theirs does.
func (f *forward) prove(ctx context.Context, witness Witness, mark string) (delivery.Proof, error) {
	whole := delivery.Proof{Holds: true}
	for _, one := range lanesOf(mark) {
		var proof delivery.Proof
		err := f.call(ctx, farEnd, "compare the sink with what it had acknowledged", func(ctx context.Context) (err error) {
			proof, err = witness.Prove(ctx, one)
			return err
		})
		if err != nil || proof.Lost != "" {
			return proof, err
		}
		whole.Holds = whole.Holds && proof.Holds
	}
	return whole, nil
}

// laneMarks is the mark of several lanes, which have connections of their own.
type laneMarks struct {
	Lanes []json.RawMessage `json:"lanes"`
}

// lanesOf takes a mark apart.
func lanesOf(mark string) []string {
	var m laneMarks
	if json.Unmarshal([]byte(mark), &m) != nil || len(m.Lanes) == 0 {
		return []string{mark}
	}
	all := make([]string, len(m.Lanes))
	for i := range m.Lanes {
		all[i] = string(m.Lanes[i])
	}
	return all
}

// mark is the sinks' for everything that is acknowledged by now.
func (f *forward) mark() string {
	var m laneMarks
	for _, l := range f.lanes {
		if witness, tells := l.sink.(Witness); tells {
			if one := witness.Mark(); one != "" {
				m.Lanes = append(m.Lanes, json.RawMessage(one))
			}
		}
	}
	switch len(m.Lanes) {
	case 0:
		return ""
	case 1:
		return string(m.Lanes[0])
	}
	text, err := json.Marshal(m)
	if err != nil {
		return "" // a mark that is no JSON cannot be saved; without one nothing is concluded
	}
	return string(text)
}

// watch ends an idle session whose connection is lost.
func (l *lane) watch(ctx context.Context) error {
	watcher, watches := l.sink.(Watcher)
	if !watches {
		return nil
	}
	if err := watcher.Watch(ctx); err != nil {
		return &sideError{side: farEnd, err: err}
	}
	return nil
}
