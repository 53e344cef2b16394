package tide_test

import (
	"context"
	"io"
	"log/slog"
	"testing"

	"github.com/pg-tide/pg-tide/tide"
)

const fill = `insert into tide.i_inbox (inbox_id, event_id, source, stream, key, op, event_type, payload)
	select (select id from tide.inbox where name = 'i'), $3::text || n, '/b/orders', 'orders', case when $2 then 'k' || n end, 'insert', 'bench', jsonb_build_object('n', n)
	from generate_series(1, $1::int) n`

// BenchmarkWorker is what a worker gets through when its handlers do nothing:
// keyless messages, and messages of as many keys.
func BenchmarkWorker(b *testing.B) {
	for _, c := range []struct {
		name  string
		keyed bool
		tx    bool
	}{{"noop", false, false}, {"noop-keyed", true, false}, {"tx", false, true}} {
		b.Run(c.name, func(b *testing.B) {
			db := database(b, 0)
			db.Exec(fill, b.N, c.keyed, "e")
			db.Exec(`vacuum analyze`)
			b.ResetTimer()
			w := start(b, db, tide.WorkerConfig{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}, func(w *tide.Worker) {
				w.HandleOthers(func(ctx context.Context, m *tide.Message) error {
					if !c.tx {
						return nil
					}
					tx, err := tide.Tx(ctx)
					if err != nil {
						return err
					}
					_, err = tx.Exec(ctx, `insert into effect (event_id) values ($1)`, m.EventID)
					return err
				})
			})
			w.Wait(b, b.N)
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
			if err := w.stopped(); err != nil {
				b.Error(err)
			}
		})
	}
}
