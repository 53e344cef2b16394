package telemetry_test

import (
	"bytes"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/pg-tide/pg-tide/internal/pipeline"
	"github.com/pg-tide/pg-tide/internal/telemetry"
)

func TestMetricsShowWhatWasSampled(t *testing.T) {
	registry := prometheus.NewRegistry()
	sample := telemetry.Sample{Ready: true, Pipelines: []telemetry.Pipeline{{
		Name: "orders-to-nats", Direction: pipeline.Forward, State: pipeline.StateWaiting, Circuit: "open", Delivered: 7, Filtered: 2, Failed: 1, RatePerSecond: 1.5}},
		Outboxes: []telemetry.Outbox{{Name: "orders", Bytes: 5000, WarnBytes: 1000, Held: 90 * time.Second}}}
	if err := telemetry.NewMetrics(registry, "1.2.3", func() telemetry.Sample { return sample }); err != nil {
		t.Fatal(err)
	}
	answer := httptest.NewRecorder()
	telemetry.Handler(registry).ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	body := answer.Body.String()
	for _, want := range []string{
		`tide_build_info{version="1.2.3"} 1`,
		`tide_relay_ready 1`,
		`tide_relay_pipelines 1`,
		`tide_events_delivered_total{direction="forward",pipeline="orders-to-nats"} 7`,
		`tide_events_filtered_total{direction="forward",pipeline="orders-to-nats"} 2`,
		`tide_events_failed_total{direction="forward",pipeline="orders-to-nats"} 1`,
		`tide_pipeline_events_per_second{direction="forward",pipeline="orders-to-nats"} 1.5`,
		`tide_pipeline_state{direction="forward",pipeline="orders-to-nats",state="waiting"} 1`,
		`tide_pipeline_state{direction="forward",pipeline="orders-to-nats",state="running"} 0`,
		`tide_pipeline_circuit_state{direction="forward",pipeline="orders-to-nats",state="open"} 1`,
		`tide_pipeline_circuit_state{direction="forward",pipeline="orders-to-nats",state="closed"} 0`,
		`tide_outbox_bytes{outbox="orders"} 5000`,
		`tide_outbox_warn_bytes{outbox="orders"} 1000`,
		`tide_outbox_held_seconds{outbox="orders"} 90`,
		`go_goroutines`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("promlint: %v %v", problems, err)
	}
}

func TestLoggerRefusesUnknownWords(t *testing.T) {
	for _, c := range []struct{ format, level, want string }{
		{"xml", "info", `"xml"`}, {"text", "loud", `"loud"`}, {"json", "info+2", `"info+2"`},
	} {
		if _, _, err := telemetry.NewLogger(&bytes.Buffer{}, c.format, c.level); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: %v", c.format, c.level, err)
		}
	}
	var out bytes.Buffer
	logger, _, err := telemetry.NewLogger(&out, "json", "warn")
	if err != nil {
		t.Fatal(err)
	}
	logger.Info("not shown")
	logger.Warn("shown", "pipeline", "p")
	if got := out.String(); strings.Contains(got, "not shown") || !strings.Contains(got, `"pipeline":"p"`) {
		t.Errorf("logged %s", got)
	}
}
