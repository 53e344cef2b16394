package builtin

import (
	"log/slog"
	"os"

	"github.com/pg-tide/pg-tide/internal/config"
	"github.com/pg-tide/pg-tide/internal/connector/kafka"
	"github.com/pg-tide/pg-tide/internal/connector/nats"
	"github.com/pg-tide/pg-tide/internal/connector/stdio"
	"github.com/pg-tide/pg-tide/internal/connector/webhook"
	"github.com/pg-tide/pg-tide/internal/pipeline"
	"github.com/pg-tide/pg-tide/internal/relay"
	"github.com/pg-tide/pg-tide/internal/transform"
	"github.com/pg-tide/pg-tide/internal/wire"
)

// Ends is what a technology's constructors get besides the configuration.
type Ends struct {
	Spec pipeline.Spec
	// Templates are all destination templates of a forward pipeline.
	Templates []string
	// Batches says that several events go in one request, as CloudEvents in
	// structured mode; only a technology whose Batches is set is asked to.
	Batches bool
	Logger  *slog.Logger
}

// Technology is one kind of far end.
type Technology struct {
	Name string
	// Title is the name for people.
	Title string
	// FarEnd is what reasons call its far end; "the broker" where it is empty.
	FarEnd string
	// SinkFields and SourceFields declare the keys; nil where there is no such end.
	SinkFields, SourceFields func() []config.Field
	// TemplateKey is the sink's key that holds the destination template; empty
	// where all events go to one place.
	TemplateKey string
	// AtomicKey is the sink's key that asks for transactions to be kept whole;
	// empty when it has none. AtomicBatch is how many events it can store at
	// once, all or none.
	AtomicKey   string
	AtomicBatch int
	// BatchSize is what a forward pipeline reads and sends at once unless its
	// configuration says so; 0 for what all others do.
	BatchSize int
	// Safe makes what is filled into a template safe for the transport.
	Safe transform.Sanitizer
	// Destination says what is wrong with a destination.
	Destination func(destination string) error
	// Spelling is how the transport writes CloudEvents attributes.
	Spelling func() wire.Spelling
	// Structured says that events are always in CloudEvents' structured mode:
	// there is no place for headers.
	Structured bool
	// Batches says that the sink can put several events into one request, and
	// answers for each of them.
	Batches bool
	Sink    func(values config.Values, ends Ends) (relay.Sink, error)
	Source  func(values config.Values, ends Ends) (relay.Source, error)
}

// Technologies lists all that is in the binary.
func Technologies() []Technology {
	return []Technology{natsTechnology(), kafkaTechnology(), pgInboxTechnology(), pgOutboxTechnology(),
		stdoutTechnology(stdio.NewOutput(os.Stdout)), fileTechnology(), stdinTechnology(stdio.NewInput(os.Stdin)),
		webhookTechnology(webhook.NewHub())}
}

func natsTechnology() Technology {
	return Technology{
		Name: "nats", Title: "NATS JetStream",
		SinkFields: nats.SinkFields, SourceFields: nats.SourceFields,
		TemplateKey: "subject_template", Safe: transform.NATSToken, Destination: transform.NATSSubject, Spelling: wire.NATS,
		AtomicKey: "atomic", AtomicBatch: nats.MaxAtomicBatch,
		Sink: func(values config.Values, ends Ends) (relay.Sink, error) {
			return nats.NewSink(values, natsDeps(ends))
		},
		Source: func(values config.Values, ends Ends) (relay.Source, error) {
			return nats.NewSource(values, natsDeps(ends))
		},
	}
}

func natsDeps(ends Ends) nats.Deps {
	deps := nats.Deps{Pipeline: ends.Spec.Name, DatabaseID: ends.Spec.DatabaseID, Templates: ends.Templates, Logger: ends.Logger}
	if ends.Spec.Direction == pipeline.Forward {
		deps.Outbox = transform.NATSToken(ends.Spec.Endpoint, false)
	}
	return deps
}

func kafkaTechnology() Technology {
	return Technology{
		Name: "kafka", Title: "Apache Kafka",
		SinkFields: kafka.SinkFields, SourceFields: kafka.SourceFields,
		TemplateKey: "topic_template", Safe: kafka.SafeToken, Destination: kafka.CheckTopic, Spelling: wire.Kafka,
		AtomicKey: kafka.TransactionalKey, AtomicBatch: kafka.ReadTogether,
		Sink: func(values config.Values, ends Ends) (relay.Sink, error) {
			return kafka.NewSink(values, kafkaDeps(ends))
		},
		Source: func(values config.Values, ends Ends) (relay.Source, error) {
			return kafka.NewSource(values, kafkaDeps(ends))
		},
	}
}

func kafkaDeps(ends Ends) kafka.Deps {
	deps := kafka.Deps{Pipeline: ends.Spec.Name, DatabaseID: ends.Spec.DatabaseID, Templates: ends.Templates, Logger: ends.Logger}
	if ends.Spec.Direction == pipeline.Forward {
		deps.Outbox = kafka.SafeToken(ends.Spec.Endpoint, false)
	}
	return deps
}
