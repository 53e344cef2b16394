package app

import (
	"sync"

	"github.com/pg-tide/pg-tide/internal/httpserver"
	"github.com/pg-tide/pg-tide/internal/relay"
	"github.com/pg-tide/pg-tide/internal/telemetry"
	"github.com/pg-tide/pg-tide/internal/upkeep"
)

// health answers probes and metrics from memory, through all the relay's life.
type health struct {
	mu     sync.Mutex
	reason string
	engine *relay.Supervisor
	keeper *upkeep.Keeper
}

func newHealth() *health { return &health{reason: "the database is not reached yet"} }

// waiting says why there is no engine yet.
func (h *health) waiting(reason string) { h.set(reason, nil, nil) }

// running hands over to the engine and the keeper.
func (h *health) running(e *relay.Supervisor, k *upkeep.Keeper) { h.set("", e, k) }

// stopping says that the end has begun.
func (h *health) stopping() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reason = "the relay is stopping"
}

func (h *health) set(reason string, e *relay.Supervisor, k *upkeep.Keeper) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reason, h.engine, h.keeper = reason, e, k
}

func (h *health) now() (reason string, e *relay.Supervisor) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.reason, h.engine
}

func (h *health) readiness() httpserver.Readiness {
	reason, e := h.now()
	if reason == "" {
		reason = e.NotReady()
	}
	if reason != "" {
		return httpserver.Readiness{Reasons: []string{reason}}
	}
	return httpserver.Readiness{Ready: true}
}

func (h *health) sample() telemetry.Sample {
	sample := telemetry.Sample{Ready: h.readiness().Ready}
	if _, e := h.now(); e != nil {
		sample.Pipelines = measured(e.Pipelines())
	}
	h.mu.Lock()
	keeper := h.keeper
	h.mu.Unlock()
	if keeper != nil {
		sample.Outboxes = measuredOutboxes(keeper.Outboxes())
	}
	return sample
}
