package telemetry

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/pg-tide/pg-tide/internal/pipeline"
)

// Pipeline is what is measured of one pipeline that this relay works.
type Pipeline struct {
	Name      string
	Direction pipeline.Direction
	State     pipeline.State
	// Circuit is the state of the circuit breaker; empty where there is none.
	Circuit string
	// Counted since this relay started the pipeline.
	Delivered, Filtered, Failed  int64
	Pushed, PushFailed, PushDead int64
	RatePerSecond                float64
}

// Outbox is what is measured of one outbox of the database.
type Outbox struct {
	Name             string
	Bytes, WarnBytes int64
	// Held is for how long its retention has been held back by a pipeline.
	Held time.Duration
}

// Sample is what is measured of a relay at one moment.
type Sample struct {
	Ready     bool
	Pipelines []Pipeline
	Outboxes  []Outbox
}

// metrics turns samples into metrics when somebody asks.
type metrics struct {
	sample func() Sample

	build     *prometheus.Desc
	ready     *prometheus.Desc
	pipelines *prometheus.Desc
	delivered *prometheus.Desc
	filtered  *prometheus.Desc
	failed    *prometheus.Desc
	pushed    *prometheus.Desc
	pushFails *prometheus.Desc
	pushDead  *prometheus.Desc
	rate      *prometheus.Desc
	state     *prometheus.Desc
	circuit   *prometheus.Desc

	outboxBytes *prometheus.Desc
	outboxLimit *prometheus.Desc
	outboxHeld  *prometheus.Desc

	version string
}

// NewMetrics registers every metric of a relay: those below and the usual ones
// of Go and of the process. sample must answer from memory.
func NewMetrics(registry *prometheus.Registry, version string, sample func() Sample) error {
	perPipeline := []string{"pipeline", "direction"}
	m := &metrics{
		sample:  sample,
		version: version,

		build:     prometheus.NewDesc("tide_build_info", "Always 1; the version is in the label.", []string{"version"}, nil),
		ready:     prometheus.NewDesc("tide_relay_ready", "1 when the relay reaches its database and may own pipelines, else 0.", nil, nil),
		pipelines: prometheus.NewDesc("tide_relay_pipelines", "Pipelines that this relay owns.", nil, nil),
		delivered: prometheus.NewDesc("tide_events_delivered_total", "Events durably delivered: acknowledged by the sink, or committed in the inbox.", perPipeline, nil),
		filtered:  prometheus.NewDesc("tide_events_filtered_total", "Events that the pipeline's filter left out.", perPipeline, nil),
		failed:    prometheus.NewDesc("tide_events_failed_total", "Events that were refused: dead letters, and events that block their pipeline.", perPipeline, nil),
		pushed:    prometheus.NewDesc("tide_inbox_messages_pushed_total", "Messages of the inbox that the service of inbox_push took.", perPipeline, nil),
		pushFails: prometheus.NewDesc("tide_inbox_push_failures_total", "Attempts to push a message that failed.", perPipeline, nil),
		pushDead:  prometheus.NewDesc("tide_inbox_push_dead_letters_total", "Messages of the inbox that became dead letters because they could not be pushed.", perPipeline, nil),
		rate:      prometheus.NewDesc("tide_pipeline_events_per_second", "Recent rate of delivered events.", perPipeline, nil),
		state:     prometheus.NewDesc("tide_pipeline_state", "1 for the state that the pipeline is in, 0 for the others.", []string{"pipeline", "direction", "state"}, nil),
		circuit:   prometheus.NewDesc("tide_pipeline_circuit_state", "1 for the state that the pipeline's circuit breaker is in, 0 for the others; pipelines without one are left out.", []string{"pipeline", "direction", "state"}, nil),

		outboxBytes: prometheus.NewDesc("tide_outbox_bytes", "Size of the outbox on disk, as of the last minute.", []string{"outbox"}, nil),
		outboxLimit: prometheus.NewDesc("tide_outbox_warn_bytes", "Size above which the outbox is reported as too large.", []string{"outbox"}, nil),
		outboxHeld:  prometheus.NewDesc("tide_outbox_held_seconds", "For how long a pipeline that has not delivered has held back the outbox's retention; 0 when none does.", []string{"outbox"}, nil),
	}
	for _, collector := range []prometheus.Collector{
		m, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := registry.Register(collector); err != nil {
			return err
		}
	}
	return nil
}

// Handler answers /metrics from a registry.
func Handler(registry *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{m.build, m.ready, m.pipelines, m.delivered, m.filtered, m.failed, m.pushed, m.pushFails, m.pushDead, m.rate, m.state, m.circuit,
		m.outboxBytes, m.outboxLimit, m.outboxHeld} {
		to <- desc
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(to chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	counter := func(desc *prometheus.Desc, value int64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(value), labels...)
	}
	sample := m.sample()
	gauge(m.build, 1, m.version)
	gauge(m.ready, number(sample.Ready))
	gauge(m.pipelines, float64(len(sample.Pipelines)))
	for _, p := range sample.Pipelines {
		labels := []string{p.Name, string(p.Direction)}
		counter(m.delivered, p.Delivered, labels...)
		counter(m.filtered, p.Filtered, labels...)
		counter(m.failed, p.Failed, labels...)
		if p.Direction == pipeline.Reverse {
			counter(m.pushed, p.Pushed, labels...)
			counter(m.pushFails, p.PushFailed, labels...)
			counter(m.pushDead, p.PushDead, labels...)
		}
		gauge(m.rate, p.RatePerSecond, labels...)
		for _, state := range states() {
			gauge(m.state, number(state == p.State), p.Name, string(p.Direction), string(state))
		}
		if p.Circuit == "" {
			continue
		}
		for _, circuit := range circuits() {
			gauge(m.circuit, number(circuit == p.Circuit), p.Name, string(p.Direction), circuit)
		}
	}
	for _, o := range sample.Outboxes {
		gauge(m.outboxBytes, float64(o.Bytes), o.Name)
		gauge(m.outboxLimit, float64(o.WarnBytes), o.Name)
		gauge(m.outboxHeld, o.Held.Seconds(), o.Name)
	}
}

func states() []pipeline.State {
	return []pipeline.State{pipeline.StateStarting, pipeline.StateRunning, pipeline.StateWaiting,
		pipeline.StateBlocked, pipeline.StateMisconfigured, pipeline.StateStopped}
}

// circuits are the states of a circuit breaker, as reports spell them.
func circuits() []string { return []string{"closed", "open", "half_open"} }

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
