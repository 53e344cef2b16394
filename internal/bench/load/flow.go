package load

import (
	"context"
	_ "embed"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

//go:embed queries/arrived.sql
var arrivedSQL string

// latePatience is how long an event may be on its way at the end.
const latePatience = 30 * time.Second

// Flow is the way from one service's outbox to the next one's inbox.
type Flow struct {
	publishSQL         string
	from, to           *pgx.Conn
	mu                 sync.Mutex
	committed, visible map[string]time.Time
	took               []float64 // milliseconds
	last               int64     // the last message that was seen
}

// NewFlow connects to both services' databases. publishSQL takes a key and a
// payload and returns the event id; the inbox is called arrived.
func NewFlow(ctx context.Context, from, to, publishSQL string) (f *Flow, err error) {
	f = &Flow{publishSQL: publishSQL, committed: map[string]time.Time{}, visible: map[string]time.Time{}}
	if f.from, err = connect(ctx, from); err != nil {
		return nil, err
	}
	if f.to, err = connect(ctx, to); err != nil {
		return nil, err
	}
	if _, err := f.to.Exec(ctx, `listen "tide_inbox_arrived"`); err != nil {
		return nil, fmt.Errorf("listen to the inbox: %w", err)
	}
	return f, nil
}

// Close ends the connections.
func (f *Flow) Close(ctx context.Context) {
	_ = f.from.Close(ctx) // the databases go as well
	_ = f.to.Close(ctx)
}

// Publish commits an event every pace, whether the one before has arrived or not.
func (f *Flow) Publish(ctx context.Context, pace time.Duration, events int, payload string) error {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for n := range events {
		var id string
		if err := f.from.QueryRow(ctx, f.publishSQL, fmt.Sprint(n%100), payload).Scan(&id); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
		f.note(f.committed, f.visible, id)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// note says that an event was seen at one end; the other end may have been first.
func (f *Flow) note(here, there map[string]time.Time, id string) {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if other, met := there[id]; met {
		delete(there, id)
		f.took = append(f.took, float64(now.Sub(other).Abs().Microseconds())/1000)
		return
	}
	here[id] = now
}

// Follow sees a number of events in the inbox: it waits for the notification
// of each batch and reads what is new, as a worker does.
func (f *Flow) Follow(ctx context.Context, events int) error {
	for seen := 0; ; {
		rows, err := f.to.Query(ctx, arrivedSQL, f.last)
		if err != nil {
			return fmt.Errorf("read the inbox: %w", err)
		}
		var id string
		if _, err := pgx.ForEachRow(rows, []any{&f.last, &id}, func() error {
			f.note(f.visible, f.committed, id)
			seen++
			return nil
		}); err != nil {
			return fmt.Errorf("read the inbox: %w", err)
		}
		if seen >= events {
			return nil
		}
		waiting, cancel := context.WithTimeout(ctx, latePatience)
		_, err = f.to.WaitForNotification(waiting)
		cancel()
		if err != nil {
			return fmt.Errorf("%d of %d events arrived: %w", seen, events, err)
		}
	}
}

// Took is how long each event was on its way, in milliseconds, since the last
// call. Nobody publishes or follows meanwhile.
func (f *Flow) Took() []float64 {
	took := f.took
	f.took = nil
	return took
}

func connect(ctx context.Context, dsn string) (*pgx.Conn, error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return nil, fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	return conn, nil
}
