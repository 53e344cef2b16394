// Command publish measures what publishing costs: the commit rate of
// tide.outbox_publish with many sessions, beside that of a plain insert into
// an outbox written by hand, and of a function that does nothing but that
// insert, on a server of its own and with no relay. They alternate several
// times a second, on sessions that are warm, since a machine is never the same
// for long; the median of the ratios of neighbours is the figure. It refuses to
// judge: nothing fails for being slow.
package main

import (
	"context"
	_ "embed"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/throwaway"
	"github.com/pg-tide/pg-tide/schema"
)

var (
	//go:embed setup.sql
	setupSQL string
	//go:embed change.sql
	changeSQL string
	//go:embed yardstick.sql
	yardstickSQL string
	//go:embed floor.sql
	floorSQL string
	//go:embed product.sql
	productSQL string
)

// payload has 170 bytes.
const payload = `{"event_type": "order.created", "order_id": "ORD-001", "customer_id": "CUST-42", "total": 149.99, "items": [{"sku": "WIDGET-A", "qty": 2}, {"sku": "GADGET-B", "qty": 1}]}`

// bench is what was asked for.
type bench struct {
	clients, rounds int
	slice           time.Duration
	// change says that each transaction also writes a row of the service's own.
	change     bool
	unprepared bool
	override   string
}

func main() {
	var b bench
	major := flag.Int("major", 0, "major version of PostgreSQL; 0 takes the newest on the machine")
	flag.IntVar(&b.clients, "clients", 16, "sessions that publish at once")
	flag.IntVar(&b.rounds, "rounds", 60, "slices of each, alternating")
	flag.DurationVar(&b.slice, "slice", 300*time.Millisecond, "length of a slice")
	flag.BoolVar(&b.change, "change", false, "publish in a transaction that inserts a row of the service's own")
	flag.BoolVar(&b.unprepared, "unprepared", false, "have each statement parsed and planned anew")
	flag.StringVar(&b.override, "with", "", "FILE of SQL that is run after the installation, to try a change")
	flag.Parse()
	if err := b.run(context.Background(), *major); err != nil {
		fmt.Fprintln(os.Stderr, "publish:", err)
		os.Exit(1)
	}
}

func (b *bench) run(ctx context.Context, major int) error {
	server, err := throwaway.Start(ctx, throwaway.Options{Major: major, Durable: true, Notices: os.Stderr,
		Settings: map[string]string{"max_wal_size": "8GB", "shared_buffers": "512MB", "autovacuum": "off", "max_connections": "300"}})
	if err != nil {
		return err
	}
	defer func() { _ = server.Close() }() // all that it held goes with it
	dsn := server.SocketDSN("postgres")
	if err := b.prepare(ctx, dsn); err != nil {
		return err
	}
	contenders := []*contender{
		{name: "plain insert", sql: yardstickSQL},
		{name: "function that inserts", sql: floorSQL},
		{name: "outbox_publish", sql: productSQL},
	}
	for _, c := range contenders {
		defer c.close(ctx)
		if err := c.open(ctx, dsn, b); err != nil {
			return err
		}
	}
	fmt.Printf("PostgreSQL %s, %d sessions, %d slices of %s each\n", server.Version, b.clients, b.rounds, b.slice)
	for range b.rounds {
		for _, c := range contenders {
			if err := c.run(ctx, b.slice); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	report(contenders)
	return nil
}

func (b *bench) prepare(ctx context.Context, dsn string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }() // the server goes as well
	if err := schema.Install(ctx, conn); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, setupSQL, pgx.QueryExecModeSimpleProtocol); err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	if b.override == "" {
		return nil
	}
	text, err := os.ReadFile(b.override)
	if err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, string(text), pgx.QueryExecModeSimpleProtocol); err != nil {
		return fmt.Errorf("run %s: %w", b.override, err)
	}
	return nil
}

// report prints each contender beside the first.
func report(contenders []*contender) {
	fmt.Printf("%-22s %10s %12s %10s   %s\n", "", "commits/s", "server's CPU", "ratio", "middle half")
	for _, c := range contenders {
		var ratios []float64
		for i := range c.rates {
			ratios = append(ratios, c.rates[i]/contenders[0].rates[i])
		}
		cost := "unknown"
		if c.processor > 0 {
			cost = fmt.Sprintf("%.0f µs", float64(c.processor.Microseconds())/float64(c.commits))
		}
		fmt.Printf("%-22s %10.0f %12s %10.2f   %s\n", c.name, quantile(c.rates, 0.5), strings.TrimSpace(cost), quantile(ratios, 0.5),
			fmt.Sprintf("%.2f to %.2f", quantile(ratios, 0.25), quantile(ratios, 0.75)))
	}
}
