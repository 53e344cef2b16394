package builtin

import (
	"github.com/pg-tide/pg-tide/internal/config"
	"github.com/pg-tide/pg-tide/internal/connector/webhook"
	"github.com/pg-tide/pg-tide/internal/wire"
)

const (
	defaultBatchSize   = 1000
	maxBatchSize       = 10_000
	defaultMaxAttempts = 5
	maxLanes           = 64
	// defaultMaxDeadLetters bounds what a broken consumer can pile up unseen.
	defaultMaxDeadLetters = 100_000

	// what a push of an inbox does unless it is told otherwise
	defaultPushConcurrency = 8
	defaultPushThreshold   = 5
	defaultPushOpenSeconds = 30
)

// CommonFields declares the keys that every pipeline of a direction has,
// whatever its technology.
func CommonFields(forward bool, technologies []string) []config.Field {
	which := config.Field{Name: "source_type", Kind: config.String, Required: true, Values: technologies, Help: "The technology of the source"}
	if forward {
		which.Name, which.Help = "sink_type", "The technology of the sink"
	}
	formats := config.Field{Name: "wire_format", Kind: config.String, Default: "native", Values: wire.Formats(),
		Help: "How events are encoded: native is CloudEvents in binary mode, cloudevents in structured mode, debezium the layout of Debezium's outbox event router, raw the payload alone; a source understands all of them whatever it says"}
	if forward {
		formats.Values = wire.WrittenFormats()
		formats.Help += "; cloudevents_batch, several events in one request, is for the webhook sink"
	}
	fields := []config.Field{
		which,
		{Name: "batch_size", Kind: config.Integer, Default: defaultBatchSize, Min: 1, Max: maxBatchSize,
			Help: "Most events that are read, sent or inserted at once"},
		{Name: "lanes", Kind: config.Integer, Default: 1, Min: 1, Max: maxLanes,
			Help: "Parallel workers, each with a connection of its own. One keeps the order of everything; several keep that of each key, and that of the events without a key"},
		formats,
		{Name: "transform", Kind: config.Object, Help: "What is done to each event on its way", Fields: []config.Field{
			{Name: "filter", Kind: config.String, Shown: true, Help: "Expression that is true for the events to keep"},
			{Name: "payload", Kind: config.String, Shown: true, Help: "Expression whose value becomes the payload"},
			languageField(),
		}},
		{Name: "on_error", Kind: config.String, Default: "park_key", Values: []string{"block", "park_key", "dead_letter"},
			Help: "What becomes of an event that is refused: block holds the pipeline; park_key sets aside the event and, in order, those of its key behind it, and is the same as dead_letter for an event without a key; dead_letter sets aside the event alone"},
		{Name: "max_attempts", Kind: config.Integer, Default: defaultMaxAttempts, Min: 1, Max: 1000,
			Help: "How often a refused event is tried before on_error applies; an event whose own expression or encoding fails is not tried again"},
		{Name: "max_dead_letters", Kind: config.Integer, Default: defaultMaxDeadLetters, Min: 1, Max: 1e9,
			Help: "How many dead letters and parked events the pipeline may have; then it is blocked, says so, and goes on by itself once some were retried or discarded"},
		{Name: "rate_limit", Kind: config.Object, Help: "Bound on the events per second", Fields: []config.Field{
			{Name: "max_messages_per_second", Kind: config.Number, Required: true, Min: 0.001, Max: 1e9, Help: "Events per second, sustained"},
			{Name: "burst_size", Kind: config.Integer, Default: 1, Min: 1, Max: 1e9, Help: "Events that may go at once after a quiet time"},
		}},
		{Name: "circuit_breaker", Kind: config.Object, Help: "Pause after failures in a row; it never sets an event aside", Fields: []config.Field{
			{Name: "failure_threshold", Kind: config.Integer, Required: true, Min: 1, Max: 1e6, Help: "Failures in a row that open the circuit"},
			{Name: "open_seconds", Kind: config.Number, Required: true, Min: 0.001, Max: 86400, Help: "How long it stays open"},
		}},
	}
	if forward {
		fields = append(fields, config.Field{Name: "routing", Kind: config.Object, Help: "Rules that choose the destination of each event; the first match wins", Fields: []config.Field{
			{Name: "rules", Kind: config.Array, Help: "The rules in order", Fields: []config.Field{
				{Name: "when", Kind: config.String, Required: true, Shown: true, Help: "Expression in the pipeline's language, see transform.language"},
				{Name: "subject", Kind: config.String, Aliases: []string{"topic"}, Help: "Template of the destination: a subject, a topic, whatever the sink has"},
				{Name: "drop", Kind: config.Boolean, Default: false, Help: "Send what matches nowhere, in place of subject: the event is counted as filtered, and the position goes on"},
			}},
			{Name: "default", Kind: config.String, Help: "Template for events that match no rule; else the sink's own"},
			{Name: "drop_unmatched", Kind: config.Boolean, Default: false, Help: "Send events that match no rule nowhere, in place of default"},
		}})
	}
	if !forward {
		fields = append(fields, PushField())
	}
	return fields
}

func languageField() config.Field {
	return config.Field{Name: "language", Kind: config.String, Default: "jmespath", Values: []string{"jmespath", "cel"},
		Help: "Language of the pipeline's expressions"}
}

// PushField declares the key of a reverse pipeline whose inbox is pushed to a
// service that speaks HTTP.
func PushField() config.Field {
	fields := append(webhook.SendFields(defaultPushConcurrency),
		config.Field{Name: "wire_format", Kind: config.String, Default: "native", Values: []string{"native", "cloudevents"},
			Help: "How events are posted: native is CloudEvents in binary mode, cloudevents in structured mode"},
		config.Field{Name: "circuit_breaker", Kind: config.Object, Help: "Pause after failures of the service in a row; no attempt at a message counts while it lasts", Fields: []config.Field{
			{Name: "failure_threshold", Kind: config.Integer, Default: defaultPushThreshold, Min: 0, Max: 1e6,
				Help: "Failures in a row, of different messages, that open the circuit; 0 for never"},
			{Name: "open_seconds", Kind: config.Number, Default: defaultPushOpenSeconds, Min: 0.001, Max: 86400, Help: "How long it stays open"},
		}})
	return config.Field{Name: "inbox_push", Kind: config.Object, Fields: fields,
		Help: "Post the inbox's messages to a service that speaks HTTP, see docs/inbox-push.md"}
}
