package world

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/torture/traffic"
	"github.com/pg-tide/pg-tide/schema"
)

// Service is one database with an outbox or an inbox, its pipeline and relays.
type Service struct {
	Name    string
	Cluster *Cluster
	// Outbox or Inbox is its end; the other is empty.
	Outbox, Inbox string
	// Types are what it publishes, or what its inbox takes from Outboxes.
	Types []string
	// Subject is where events go, or come from.
	Subject  string
	Filter   string
	Pipeline string
	// OnError is the policy for events that the broker refuses.
	OnError string
	// Retention is that of its outbox or inbox; 0 leaves the default.
	Retention time.Duration
	Relays    []*Relay

	bus Bus
}

// The event types that are published.
const (
	Created   = "order.created"
	Cancelled = "order.cancelled"
	Stock     = "stock.changed"
	// Poison is too large for the broker.
	Poison = "poison"
)

// attempts is how often an event is tried before it is set aside.
const attempts = 2

// services describes the four: two that publish, two that consume.
func services(first, second *Cluster, bus Bus) []*Service {
	to := "-to-" + strings.ToLower(bus.Name())
	all := []*Service{
		{Name: "orders", Cluster: first, Outbox: "order_events", Types: []string{Created, Created, Cancelled},
			Subject: "events.orders.{op}", Pipeline: "orders" + to, OnError: "park_key"},
		{Name: "stock", Cluster: second, Outbox: "stock_events", Types: []string{Stock},
			Subject: "events.stock.{op}", Pipeline: "stock" + to, OnError: "dead_letter"},
		{Name: "payments", Cluster: second, Inbox: "payment_triggers",
			Subject: "events.>", Pipeline: "events-for-payments"},
		{Name: "shipping", Cluster: first, Inbox: "shipping_triggers",
			Subject: "events.orders.>", Pipeline: "orders-for-shipping", Filter: "payload.event_type == '" + Created + "'"},
	}
	for _, s := range all {
		s.bus = bus
	}
	return all
}

// DSN reaches the service's database directly.
func (s *Service) DSN() string { return s.Cluster.Server.DSN(s.Name) }

// Connect opens a session of ours, around the proxies.
func (s *Service) Connect(ctx context.Context) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(s.DSN())
	if err != nil {
		return nil, err
	}
	config.ConnectTimeout = connectTimeout
	config.RuntimeParams["application_name"] = "torture-looks-on"
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", s.Name, err)
	}
	return conn, nil
}

// Do runs work on a session of ours.
func (s *Service) Do(ctx context.Context, work func(*pgx.Conn) error) error {
	conn, err := s.Connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // its work is done
	return work(conn)
}

// setUp makes the database and what is in it.
func (s *Service) setUp(ctx context.Context, lanes, idle int) error {
	if err := s.Cluster.createDatabase(ctx, s.Name); err != nil {
		return err
	}
	return s.Do(ctx, func(conn *pgx.Conn) error {
		if err := schema.Install(ctx, conn); err != nil {
			return fmt.Errorf("install into %s: %w", s.Name, err)
		}
		create, name, more := query("outbox_create"), s.Outbox, traffic.SetUpPublisher
		if s.Inbox != "" {
			create, name, more = query("inbox_create"), s.Inbox, traffic.SetUpConsumer
		}
		var retention *time.Duration
		if s.Retention > 0 {
			retention = &s.Retention
		}
		if _, err := conn.Exec(ctx, create, name, retention); err != nil {
			return fmt.Errorf("set up %s: %w", s.Name, err)
		}
		if err := more(ctx, conn); err != nil {
			return fmt.Errorf("set up %s: %w", s.Name, err)
		}
		if err := s.Configure(ctx, conn, 0, lanes); err != nil {
			return err
		}
		return s.addIdle(ctx, conn, idle)
	})
}

// addIdle adds pipelines, each of an outbox that nobody publishes to, for
// what it costs a relay to have many.
func (s *Service) addIdle(ctx context.Context, conn *pgx.Conn, n int) error {
	for n := range n {
		idle := *s
		idle.Outbox, idle.Pipeline, idle.Subject = fmt.Sprintf("idle_%d", n), fmt.Sprintf("idle-%d", n), "events.idle.{op}"
		if _, err := conn.Exec(ctx, query("outbox_create"), idle.Outbox, nil); err != nil {
			return fmt.Errorf("set up %s: %w", idle.Outbox, err)
		}
		if err := idle.Configure(ctx, conn, 0, 1); err != nil {
			return err
		}
	}
	return nil
}

// Configure sets the pipeline's configuration; a batch size of 0 leaves the default.
func (s *Service) Configure(ctx context.Context, conn *pgx.Conn, batchSize, lanes int) error {
	config := s.bus.ends(s)
	set, end := query("set_outbox"), s.Outbox
	if s.Inbox != "" {
		set, end = query("set_inbox"), s.Inbox
	}
	if s.Filter != "" {
		config["transform"] = map[string]any{"filter": s.Filter}
	}
	if s.OnError != "" {
		config["on_error"], config["max_attempts"] = s.OnError, attempts
	}
	if batchSize > 0 {
		config["batch_size"] = batchSize
	}
	if lanes > 1 {
		config["lanes"] = lanes
	}
	text, err := json.Marshal(config)
	if err != nil {
		return fmt.Errorf("encode the configuration of %s: %w", s.Pipeline, err)
	}
	if _, err := conn.Exec(ctx, set, s.Pipeline, end, string(text)); err != nil {
		return fmt.Errorf("configure %s: %w", s.Pipeline, err)
	}
	return nil
}

// Ownership is who owns the pipeline.
type Ownership struct {
	PID     int
	RelayID string
	Since   time.Time
	// Saved is the owner's first save of a position; nil before, and for
	// pipelines that save none.
	Saved *time.Time
}

// Owner asks who owns the service's pipeline; PID is 0 when nobody does.
func (s *Service) Owner(ctx context.Context, conn *pgx.Conn) (o Ownership, err error) {
	var name string
	err = conn.QueryRow(ctx, query("owners"), s.Pipeline).Scan(&name, &o.PID, &o.RelayID, &o.Since, &o.Saved)
	return o, err
}
