package demo

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/app"
)

// output may be written to while it is read.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func relay(ctx context.Context, postgresURL string, logger *slog.Logger) error {
	return app.Run(ctx, app.Options{PostgresURL: postgresURL, Logger: logger})
}

// sabotage loses, doubles, invents and reorders one payment each.
const sabotage = `
with pair as (select order_id from payments group by 1 having count(*) = 2 order by 1 limit 1)
update payments p set seq = o.seq, event_id = o.event_id
from payments o where o.order_id = p.order_id and o.id <> p.id and p.order_id = (select order_id from pair);
insert into payments (event_id, order_id, seq, what)
select event_id, order_id, seq, what from payments where id = (select min(id) from payments);
insert into payments (event_id, order_id, seq, what) values ('none', 'ORD-0', 1, 'taken');
delete from payments where id = (
    select max(id) from payments where seq = 1 and order_id in (select order_id from payments group by 1 having count(*) = 1) and order_id <> 'ORD-0');
`

func TestBrokenPromiseIsSeenAndIsAnError(t *testing.T) {
	t.Parallel()
	var stops atomic.Int32
	out := &output{}
	err := Run(t.Context(), Options{Out: out, For: shortest, Rate: 200, Relay: func(ctx context.Context, postgresURL string, logger *slog.Logger) error {
		err := relay(ctx, postgresURL, logger)
		// The payment service stops once on the way and once at the end.
		if strings.Contains(postgresURL, "/payments?") && stops.Add(1) == 2 {
			conn, connectErr := pgx.Connect(context.Background(), postgresURL)
			if connectErr != nil {
				t.Error(connectErr)
				return connectErr
			}
			defer func() { _ = conn.Close(context.Background()) }()
			if _, err := conn.PgConn().Exec(context.Background(), sabotage).ReadAll(); err != nil {
				t.Error(err)
			}
		}
		return err
	}})
	if !errors.Is(err, errDifferent) {
		t.Errorf("it ended with %v", err)
	}
	for _, want := range []string{"lost 1, doubled 1, invented 1, out of order 1", "invented: event 1 of ORD-0"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
}

func TestRelayThatEndsEndsTheDemoWithItsReason(t *testing.T) {
	t.Parallel()
	broken := errors.New("no relay today")
	err := Run(t.Context(), Options{Out: &output{}, Relay: func(context.Context, string, *slog.Logger) error { return broken }})
	if !errors.Is(err, broken) {
		t.Errorf("it ended with %v", err)
	}
}

func TestStoppedDemoSaysSo(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	err := Run(ctx, Options{Out: &output{}, Relay: func(ctx context.Context, url string, logger *slog.Logger) error {
		cancel()
		return relay(ctx, url, logger)
	}})
	if !errors.Is(err, errStopped) {
		t.Errorf("it ended with %v", err)
	}
}

func TestKeptDemoStaysUntilStoppedAndIsThenDone(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &watcher{want: "Start a relay", found: cancel}
	if err := Run(ctx, Options{Out: out, For: shortest, Keep: true, Relay: relay}); err != nil {
		t.Errorf("it ended with %v\n%s", err, out)
	}
	for _, want := range []string{"lost 0, doubled 0, invented 0, out of order 0", "/tutorial_orders?", "/payments?", "nats://127.0.0.1:"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
}

// watcher calls found once its text holds what is wanted.
type watcher struct {
	output
	want  string
	found func()
}

func (w *watcher) Write(p []byte) (int, error) {
	n, err := w.output.Write(p)
	if strings.Contains(w.String(), w.want) {
		w.found()
	}
	return n, err
}

func TestWrongOptionsAreRefused(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{{For: 1}, {For: -1}, {Rate: -1}, {Rate: mostRate + 1}} {
		var wrong *OptionError
		if err := Run(t.Context(), o); !errors.As(err, &wrong) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
