package app

import (
	"context"

	"github.com/pg-tide/pg-tide/internal/catalog"
	"github.com/pg-tide/pg-tide/internal/telemetry"
)

// engine is the part that moves events, as health and Run see it.
type engine struct{}

func newEngine(_ *catalog.Catalog, _ Options) *engine { return &engine{} }

// Run works until ctx ends.
func (e *engine) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (e *engine) notReady() string { return "" }

func (e *engine) pipelines() []telemetry.Pipeline { return nil }
