package builtin

import (
	"github.com/pg-tide/pg-tide/internal/config"
	"github.com/pg-tide/pg-tide/internal/connector/webhook"
	"github.com/pg-tide/pg-tide/internal/relay"
	"github.com/pg-tide/pg-tide/internal/wire"
)

// A request for each event takes long: what is cut off when a relay stops is
// sent again, and should be little.
const webhookBatchSize = 100

// webhookTechnology has both ways; the hub is the relay's, since its pipelines
// may share an address that they listen on.
func webhookTechnology(hub *webhook.Hub) Technology {
	return Technology{
		Name: "webhook", Title: "HTTP webhook", FarEnd: "the service",
		SinkFields: webhook.SinkFields, SourceFields: webhook.SourceFields,
		TemplateKey: "path_template", BatchSize: webhookBatchSize, Batches: true,
		Safe: webhook.URLSegment, Destination: webhook.URLPath, Spelling: wire.HTTP,
		Sink: func(values config.Values, ends Ends) (relay.Sink, error) {
			return webhook.NewSink(values, webhook.SinkDeps{Templates: ends.Templates, Batches: ends.Batches})
		},
		Source: func(values config.Values, ends Ends) (relay.Source, error) {
			return webhook.NewSource(values, ends.Spec.Name, hub)
		},
	}
}
