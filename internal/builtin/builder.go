package builtin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/pg-tide/pg-tide/internal/config"
	"github.com/pg-tide/pg-tide/internal/connector/webhook"
	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/pipeline"
	"github.com/pg-tide/pg-tide/internal/push"
	"github.com/pg-tide/pg-tide/internal/relay"
	"github.com/pg-tide/pg-tide/internal/wire"
)

// Near makes the ends of a pipeline that lie in the database.
type Near struct {
	Reader      func(spec pipeline.Spec) relay.Reader
	Inbox       func(spec pipeline.Spec) relay.Inbox
	DeadLetters func(spec pipeline.Spec) relay.DeadLetters
	// Claims work the inbox of a pipeline that pushes it on.
	Claims func(spec pipeline.Spec) push.Inbox
}

// Builder turns specifications into plans.
type Builder struct {
	Near         Near
	Technologies []Technology
	Resolver     config.Resolver
	Logger       *slog.Logger
}

var _ relay.Builder = (*Builder)(nil)

// Build decodes the configuration, resolves its secrets, compiles its
// expressions and constructs both ends, without any network. Its errors have
// the verdict misconfigured.
func (b *Builder) Build(_ context.Context, spec pipeline.Spec) (relay.Plan, error) {
	plan, err := b.build(spec)
	if err != nil {
		return relay.Plan{}, delivery.Misconfigured(fmt.Errorf("configuration of pipeline %q: %w", spec.Name, err))
	}
	return plan, nil
}

func (b *Builder) build(spec pipeline.Spec) (relay.Plan, error) {
	forward := spec.Direction == pipeline.Forward
	technology, err := b.technology(spec.Config, forward)
	if err != nil {
		return relay.Plan{}, err
	}
	values, err := b.decode(spec, technology, forward)
	if err != nil {
		return relay.Plan{}, err
	}
	way, err := compileWay(values, technology, forward)
	if err != nil {
		return relay.Plan{}, err
	}
	plan := relay.Plan{Spec: spec, Limits: limits(values), FarEnd: technology.FarEnd, Codec: way.codec, DeadLetters: b.Near.DeadLetters(spec)}
	if way.expressions != nil {
		plan.Changes = append(plan.Changes, way.expressions)
	}
	ends := Ends{Spec: spec, Logger: b.Logger}
	if forward {
		plan.Changes = append(plan.Changes, way.router)
		ends.Templates, ends.Batches = way.templates(), way.batches
		return b.forward(plan, technology, values, ends)
	}
	plan.Inbox = b.Near.Inbox(spec)
	if values.Has("inbox_push") {
		if plan.Pusher, err = b.pusher(spec, values.Object("inbox_push")); err != nil {
			return relay.Plan{}, fmt.Errorf("key \"inbox_push\": %w", err)
		}
	}
	plan.Source, err = technology.Source(values, ends)
	return plan, err
}

func (b *Builder) pusher(spec pipeline.Spec, values config.Values) (relay.Pusher, error) {
	sender, err := webhook.NewSender(values)
	if err != nil {
		return nil, err
	}
	codec, err := wire.New(values.String("wire_format"), wire.HTTP())
	if err != nil {
		return nil, err
	}
	return push.New(b.Near.Claims(spec), sender, codec, push.Options{Breaker: breakerOf(values)}), nil
}

func (b *Builder) forward(plan relay.Plan, technology *Technology, values config.Values, ends Ends) (relay.Plan, error) {
	var err error
	plan.Reader = b.Near.Reader(plan.Spec)
	if technology.BatchSize > 0 && !values.Has("batch_size") {
		plan.Limits.BatchSize = technology.BatchSize
	}
	if key := technology.AtomicKey; key != "" && values.Bool(key) {
		if err := keepTransactions(&plan, values, key, technology.AtomicBatch); err != nil {
			return plan, err
		}
	}
	if plan.Sink, err = technology.Sink(values, ends); err != nil {
		return plan, err
	}
	for range plan.Limits.Lanes - 1 {
		sink, err := technology.Sink(values, ends)
		if err != nil {
			return plan, err
		}
		plan.LaneSinks = append(plan.LaneSinks, sink)
	}
	return plan, nil
}

// technology finds what the configuration names, before its keys are known.
func (b *Builder) technology(raw []byte, forward bool) (*Technology, error) {
	key, other, where := "source_type", "sink_type", "tide.relay_set_outbox"
	if forward {
		key, other, where = "sink_type", "source_type", "tide.relay_set_inbox"
	}
	var object map[string]any
	if err := json.Unmarshal(raw, &object); err != nil || object == nil {
		return nil, errors.New("it is not a JSON object")
	}
	name, ok := object[key].(string)
	if !ok {
		if _, mistaken := object[other]; mistaken {
			return nil, fmt.Errorf("key %q is missing and %q is there (a pipeline with %s is set with %s)", key, other, other, where)
		}
		return nil, fmt.Errorf("key %q must name a technology: %s", key, strings.Join(b.names(forward), ", "))
	}
	for i := range b.Technologies {
		if t := &b.Technologies[i]; t.Name == name && (forward && t.Sink != nil || !forward && t.Source != nil) {
			return t, nil
		}
	}
	hint := ""
	if near := config.Nearest(name, b.names(forward)); near != "" {
		hint = fmt.Sprintf(" (did you mean %q?)", near)
	}
	return nil, fmt.Errorf("key %q is %q but must be one of %s%s", key, name, strings.Join(b.names(forward), ", "), hint)
}

func (b *Builder) names(forward bool) []string {
	var names []string
	for i := range b.Technologies {
		if t := &b.Technologies[i]; forward && t.Sink != nil || !forward && t.Source != nil {
			names = append(names, t.Name)
		}
	}
	return names
}

func (b *Builder) decode(spec pipeline.Spec, technology *Technology, forward bool) (config.Values, error) {
	fields := CommonFields(forward, b.names(forward))
	if forward {
		fields = append(fields, technology.SinkFields()...)
	} else {
		fields = append(fields, technology.SourceFields()...)
	}
	values, notices, err := config.Decode(fields, spec.Config, b.Resolver)
	for _, notice := range notices {
		b.Logger.Info("configuration key has another name", "pipeline", spec.Name, "alias", notice.Alias, "name", notice.Name)
	}
	return values, err
}

func limits(values config.Values) pipeline.Limits {
	rate := values.Object("rate_limit")
	return pipeline.Limits{
		BatchSize:      int(values.Int("batch_size")),
		MaxAttempts:    int(values.Int("max_attempts")),
		OnError:        pipeline.Policy(values.String("on_error")),
		MaxDeadLetters: int(values.Int("max_dead_letters")),
		Lanes:          int(values.Int("lanes")),
		RateLimit:      pipeline.RateLimit{PerSecond: rate.Float("max_messages_per_second"), Burst: int(rate.Int("burst_size"))},
		CircuitBreaker: breakerOf(values),
	}
}

func breakerOf(values config.Values) pipeline.CircuitBreaker {
	breaker := values.Object("circuit_breaker")
	return pipeline.CircuitBreaker{
		FailureThreshold: int(breaker.Int("failure_threshold")),
		Open:             time.Duration(breaker.Float("open_seconds") * float64(time.Second)),
	}
}
