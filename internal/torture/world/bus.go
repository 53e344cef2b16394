package world

import (
	"context"
	"time"

	"github.com/pg-tide/pg-tide/internal/torture/proxy"
)

// Bus is the broker that is tortured.
type Bus interface {
	// Name is what people call it.
	Name() string
	// Start starts it, again with its data after Kill.
	Start(ctx context.Context) error
	// Kill ends it by SIGKILL.
	Kill()
	// Stored reads all that was stored, of each place in its order; Last is how
	// much that is.
	Stored(ctx context.Context) ([]Stored, error)
	Last(ctx context.Context) (uint64, error)

	// way puts a proxy before it for one relay, which is told the address.
	way(ctx context.Context) (p *proxy.Proxy, address string, err error)
	// ends are the keys of a pipeline's configuration that are about the broker.
	ends(s *Service) map[string]any
	close() error
}

// Limiter is a Bus that can be given no room for more, and room again.
type Limiter interface {
	Limit(ctx context.Context, full bool) error
}

// Stored is an event as the broker has it.
type Stored struct {
	ID string
	// Place grows along its subject or topic, which is Where.
	Place int64
	Where string
	At    time.Time
}

// The buses that can be tortured.
const (
	BusNATS  = "nats"
	BusKafka = "kafka"
)

// startBus starts the broker that was asked for.
func (w *World) startBus(ctx context.Context) (err error) {
	if w.options.Bus == BusKafka {
		w.Bus, err = startKafka(ctx, w.options, relaysOf(w.options))
		return err
	}
	w.Bus, err = w.startNATS(ctx)
	return err
}

// relaysOf is how many relays there are: those of four services.
func relaysOf(o Options) int { return 4 * o.Relays }
