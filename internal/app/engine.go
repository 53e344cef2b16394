package app

import (
	"context"
	"slices"
	"strings"

	"github.com/pg-tide/pg-tide/internal/builtin"
	"github.com/pg-tide/pg-tide/internal/catalog"
	"github.com/pg-tide/pg-tide/internal/config"
	"github.com/pg-tide/pg-tide/internal/connector/inbox"
	"github.com/pg-tide/pg-tide/internal/connector/outbox"
	"github.com/pg-tide/pg-tide/internal/pipeline"
	"github.com/pg-tide/pg-tide/internal/relay"
	"github.com/pg-tide/pg-tide/internal/retry"
	"github.com/pg-tide/pg-tide/internal/telemetry"
)

// engine is the part that moves events, as health and Run see it.
type engine struct{ supervisor *relay.Supervisor }

// newEngine plugs catalog, connectors and engine together.
func newEngine(db *catalog.Catalog, o Options) *engine {
	builder := &builtin.Builder{
		Near: builtin.Near{
			Reader: func(spec pipeline.Spec) relay.Reader { return outbox.New(db, spec) },
			Inbox:  func(spec pipeline.Spec) relay.Inbox { return inbox.New(db, spec) },
			DeadLetters: func(spec pipeline.Spec) relay.DeadLetters {
				return db.DeadLetters(catalog.Owner{PipelineID: spec.ID, Fence: spec.Fence})
			},
		},
		Technologies: builtin.Technologies(),
		Resolver:     config.SystemResolver(),
		Logger:       o.Logger,
	}
	options := relay.Options{DrainTimeout: o.DrainTimeout}
	return &engine{supervisor: relay.NewSupervisor(db.Registry(), builder, retry.System{}, o.Logger, options)}
}

// Run works until ctx ends, and then drains.
func (e *engine) Run(ctx context.Context) error { return e.supervisor.Run(ctx) }

func (e *engine) notReady() string { return e.supervisor.NotReady() }

// pipelines are what runs here, by name.
func (e *engine) pipelines() []telemetry.Pipeline {
	var all []telemetry.Pipeline
	for _, p := range e.supervisor.Pipelines() {
		all = append(all, telemetry.Pipeline{
			Name: p.Spec.Name, Direction: p.Spec.Direction, State: p.Report.State,
			Delivered: p.Report.Delivered, Filtered: p.Report.Filtered, Failed: p.Report.Failed,
			RatePerSecond: p.Report.RatePerSecond,
		})
	}
	slices.SortFunc(all, func(a, b telemetry.Pipeline) int { return strings.Compare(a.Name, b.Name) })
	return all
}
