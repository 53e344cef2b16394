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
	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/pipeline"
	"github.com/pg-tide/pg-tide/internal/relay"
	"github.com/pg-tide/pg-tide/internal/transform"
	"github.com/pg-tide/pg-tide/internal/wire"
)

// Near makes the ends of a pipeline that lie in the database.
type Near struct {
	Reader      func(spec pipeline.Spec) relay.Reader
	Inbox       func(spec pipeline.Spec) relay.Inbox
	DeadLetters func(spec pipeline.Spec) relay.DeadLetters
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
	plan := relay.Plan{Spec: spec, Limits: limits(values), DeadLetters: b.Near.DeadLetters(spec)}
	spelling := technology.Spelling()
	plan.Codec = wire.Binary{Spelling: spelling}
	if values.String("wire_format") == "cloudevents" {
		plan.Codec = wire.Structured{Spelling: spelling}
	}
	expressions, err := transform.Compile(transformOptions(values))
	if err != nil {
		return relay.Plan{}, err
	}
	if expressions != nil {
		plan.Changes = append(plan.Changes, expressions)
	}
	ends := Ends{Spec: spec, Logger: b.Logger}
	if forward {
		return b.forward(plan, technology, values, ends)
	}
	plan.Inbox = b.Near.Inbox(spec)
	plan.Source, err = technology.Source(values, ends)
	return plan, err
}

func (b *Builder) forward(plan relay.Plan, technology *Technology, values config.Values, ends Ends) (relay.Plan, error) {
	router, templates, err := compileRouter(values, technology)
	if err != nil {
		return relay.Plan{}, err
	}
	plan.Changes = append(plan.Changes, router)
	plan.Reader = b.Near.Reader(plan.Spec)
	if technology.AtomicBatch > 0 && values.Bool("atomic") {
		if err := keepTransactions(&plan, values, technology.AtomicBatch); err != nil {
			return plan, err
		}
	}
	ends.Templates = templates
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
	rate, breaker := values.Object("rate_limit"), values.Object("circuit_breaker")
	return pipeline.Limits{
		BatchSize:      int(values.Int("batch_size")),
		MaxAttempts:    int(values.Int("max_attempts")),
		OnError:        pipeline.Policy(values.String("on_error")),
		MaxDeadLetters: int(values.Int("max_dead_letters")),
		Lanes:          int(values.Int("lanes")),
		RateLimit:      pipeline.RateLimit{PerSecond: rate.Float("max_messages_per_second"), Burst: int(rate.Int("burst_size"))},
		CircuitBreaker: pipeline.CircuitBreaker{
			FailureThreshold: int(breaker.Int("failure_threshold")),
			Open:             time.Duration(breaker.Float("open_seconds") * float64(time.Second)),
		},
	}
}

func transformOptions(values config.Values) transform.Options {
	t := values.Object("transform")
	return transform.Options{Language: t.String("language"), Filter: t.String("filter"), Payload: t.String("payload")}
}

// compileRouter returns the change that fills in the destination, and every
// template that it may choose.
func compileRouter(values config.Values, technology *Technology) (*transform.Router, []string, error) {
	fallback := values.String(technology.TemplateKey)
	routing := values.Object("routing")
	if routing.Has("default") {
		fallback = routing.String("default")
	}
	templates := []string{fallback}
	var rules []transform.Rule
	for _, rule := range routing.List("rules") {
		to := rule.String("subject")
		rules = append(rules, transform.Rule{When: rule.String("when"), To: to})
		if to != "" { // which drops the event
			templates = append(templates, to)
		}
	}
	router, err := transform.CompileRouter(values.Object("transform").String("language"), rules, fallback, technology.Safe)
	if err != nil {
		return nil, nil, err
	}
	for _, text := range templates {
		template, err := transform.CompileTemplate(text, technology.Safe)
		if err != nil {
			return nil, nil, err
		}
		if err := technology.Destination(template.Skeleton()); err != nil {
			return nil, nil, fmt.Errorf("template %q cannot be a destination: %w", text, err)
		}
	}
	return router, templates, nil
}
