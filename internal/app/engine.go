package app

import (
	"context"
	"log/slog"

	"github.com/pg-tide/pg-tide/internal/builtin"
	"github.com/pg-tide/pg-tide/internal/catalog"
	"github.com/pg-tide/pg-tide/internal/config"
	"github.com/pg-tide/pg-tide/internal/connector/inbox"
	"github.com/pg-tide/pg-tide/internal/connector/outbox"
	"github.com/pg-tide/pg-tide/internal/pipeline"
	"github.com/pg-tide/pg-tide/internal/push"
	"github.com/pg-tide/pg-tide/internal/relay"
	"github.com/pg-tide/pg-tide/internal/retry"
	"github.com/pg-tide/pg-tide/internal/telemetry"
)

// newSupervisor plugs the database, the engine and all that is in the binary
// together. Less than a third of the drain timeout is for what is in flight:
// handing back ownership and disconnecting come after it, and the whole must
// end in time. Others take over only after the handing back.
func newSupervisor(db *catalog.Catalog, o Options) *relay.Supervisor {
	builder := &builtin.Builder{
		Near:         near(db),
		Technologies: builtin.Technologies(),
		Resolver:     config.SystemResolver(),
		Logger:       o.Logger,
	}
	// What the far end does not acknowledge within 1.5 s it may not acknowledge
	// at all; the next owner sends it again. What follows, the end of the
	// sessions, the last report and the leave, may each take an eighth before
	// the connections are abandoned: a silent database must not add up.
	options := relay.Options{DrainTimeout: o.DrainTimeout * 3 / 10, CloseTimeout: o.DrainTimeout / 8}
	return relay.NewSupervisor(db.Registry(), builder, retry.System{}, o.Logger, options)
}

// near makes the ends of pipelines that lie in the database.
func near(db *catalog.Catalog) builtin.Near {
	return builtin.Near{
		Reader: func(spec pipeline.Spec) relay.Reader { return outbox.New(db, spec) },
		Inbox:  func(spec pipeline.Spec) relay.Inbox { return inbox.New(db, spec) },
		DeadLetters: func(spec pipeline.Spec) relay.DeadLetters {
			return db.DeadLetters(catalog.OwnerOf(spec))
		},
		Claims: func(spec pipeline.Spec) push.Inbox { return db.Claims(spec) },
	}
}

// measured is what the metrics show of the pipelines that run here.
func measured(pipelines []relay.Pipeline) []telemetry.Pipeline {
	samples := make([]telemetry.Pipeline, 0, len(pipelines))
	for _, p := range pipelines {
		samples = append(samples, telemetry.Pipeline{
			Name:          p.Spec.Name,
			Direction:     p.Spec.Direction,
			State:         p.Report.State,
			Circuit:       p.Report.Circuit,
			Delivered:     p.Report.Delivered,
			Filtered:      p.Report.Filtered,
			Failed:        p.Report.Failed,
			Pushed:        p.Report.Pushed,
			PushFailed:    p.Report.PushFailed,
			PushDead:      p.Report.PushDead,
			RatePerSecond: p.Report.RatePerSecond,
		})
	}
	return samples
}

// measuredOutboxes is what the metrics show of the database's outboxes.
func measuredOutboxes(outboxes []catalog.OutboxSize) []telemetry.Outbox {
	samples := make([]telemetry.Outbox, 0, len(outboxes))
	for _, o := range outboxes {
		samples = append(samples, telemetry.Outbox{Name: o.Name, Bytes: o.Bytes, WarnBytes: o.WarnBytes, Held: o.Held})
	}
	return samples
}

// recognise lets the database notice that it was restored or copied.
func recognise(ctx context.Context, db *catalog.Catalog, log *slog.Logger) error {
	node, err := db.CheckNode(ctx)
	if err != nil {
		return err
	}
	log.Info("the database is reached", "database_id", node.DatabaseID, "incarnation", node.Incarnation)
	return nil
}
