package relay

import (
	"context"
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

func (f *forward) prove(ctx context.Context, witness Witness, mark string) (proof delivery.Proof, err error) {
	err = f.call(ctx, farEnd, "compare the sink with what it had acknowledged", func(ctx context.Context) error {
		proof, err = witness.Prove(ctx, mark)
		return err
	})
	return proof, err
}

// mark is the sink's for everything that is acknowledged by now.
func (f *forward) mark() string {
	if witness, tells := f.plan.Sink.(Witness); tells {
		return witness.Mark()
	}
	return ""
}
