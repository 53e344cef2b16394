// Command publish measures what publishing costs: the commit rate of
// tide.outbox_publish with many sessions, beside that of a plain insert into
// an outbox written by hand, on a server of its own and with no relay. The two
// alternate, since a machine is never the same twice; the ratio of the medians
// is the figure. It refuses to judge: nothing fails for being slow.
package main

import (
	"context"
	_ "embed"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/throwaway"
	"github.com/pg-tide/pg-tide/schema"
)

var (
	//go:embed setup.sql
	setupSQL string
	//go:embed reset.sql
	resetSQL string
	//go:embed yardstick.sql
	yardstickSQL string
	//go:embed product.sql
	productSQL string
)

func main() {
	major := flag.Int("major", 0, "major version of PostgreSQL; 0 takes the newest on the machine")
	clients := flag.Int("clients", 16, "sessions that publish at once")
	rounds := flag.Int("rounds", 5, "runs of each, alternating")
	length := flag.Duration("for", 5*time.Second, "length of one run, in whole seconds")
	override := flag.String("with", "", "FILE of SQL that is run after the installation, to try a change")
	flag.Parse()
	b := bench{clients: *clients, rounds: *rounds, length: *length, override: *override}
	if err := b.run(context.Background(), *major); err != nil {
		fmt.Fprintln(os.Stderr, "publish:", err)
		os.Exit(1)
	}
}

type bench struct {
	clients, rounds int
	length          time.Duration
	override        string
	pgbench         string
	server          *throwaway.Server
}

func (b *bench) run(ctx context.Context, major int) (err error) {
	b.server, err = throwaway.Start(ctx, throwaway.Options{Major: major, Durable: true, Notices: os.Stderr,
		Settings: map[string]string{"max_wal_size": "8GB", "shared_buffers": "512MB", "autovacuum": "off"}})
	if err != nil {
		return err
	}
	defer func() { _ = b.server.Close() }() // all that it held goes with it
	var found bool
	if b.pgbench, found = throwaway.Tool(ctx, "pgbench", 0); !found {
		return fmt.Errorf("measure with pgbench: there is none on this machine; hint: install PostgreSQL's programs")
	}
	conn, err := pgx.Connect(ctx, b.server.SocketDSN("postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }() // the server goes as well
	if err := b.prepare(ctx, conn); err != nil {
		return err
	}
	fmt.Printf("PostgreSQL %s, %d sessions, %d runs of %s each\n", b.server.Version, b.clients, b.rounds, b.length)
	var plain, published, plainCost, publishedCost []float64
	for range b.rounds {
		one, err := b.measure(ctx, conn, yardstickSQL)
		if err != nil {
			return err
		}
		two, err := b.measure(ctx, conn, productSQL)
		if err != nil {
			return err
		}
		plain, published = append(plain, one.rate), append(published, two.rate)
		plainCost, publishedCost = append(plainCost, one.cost), append(publishedCost, two.cost)
		fmt.Printf("plain insert %6.0f/s %4.0f µs   outbox_publish %6.0f/s %4.0f µs   ratio %.2f\n", one.rate, one.cost, two.rate, two.cost, two.rate/one.rate)
	}
	fmt.Printf("medians: plain insert %.0f/s, outbox_publish %.0f/s, ratio %.2f\n",
		median(plain), median(published), median(published)/median(plain))
	fmt.Printf("processor time of the server for one transaction: plain insert %.0f µs, outbox_publish %.0f µs, ratio %.2f\n",
		median(plainCost), median(publishedCost), median(plainCost)/median(publishedCost))
	return nil
}

// result is what one run showed: commits per second, and microseconds of
// processor time that the sessions' processes took for each. The second says
// more than the first on a machine that is busy otherwise.
type result struct{ rate, cost float64 }

func (b *bench) prepare(ctx context.Context, conn *pgx.Conn) error {
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

var (
	rate  = regexp.MustCompile(`(?m)^tps = ([0-9.]+)`)
	count = regexp.MustCompile(`(?m)^number of transactions actually processed: ([0-9]+)`)
)

// measure runs one statement for a while.
func (b *bench) measure(ctx context.Context, conn *pgx.Conn, sql string) (r result, err error) {
	for _, statement := range regexp.MustCompile(`;\s*\n`).Split(resetSQL, -1) {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return r, fmt.Errorf("start from nothing: %w", err)
		}
	}
	script := filepath.Join(b.server.Dir, "script.sql")
	if err := os.WriteFile(script, []byte(sql), 0o600); err != nil {
		return r, err
	}
	before, children := b.processorTime(), b.children()
	command := exec.CommandContext(ctx, b.pgbench, "--no-vacuum", "--protocol=prepared", "--file="+script,
		"--client="+strconv.Itoa(b.clients), "--jobs=2", "--time="+strconv.Itoa(max(1, int(b.length.Seconds()))),
		"--host="+b.server.SocketDir, "--port="+strconv.Itoa(b.server.Port), "--username=postgres", "postgres")
	out, err := command.CombinedOutput()
	if err != nil {
		return r, fmt.Errorf("run pgbench: %w\n%s", err, out)
	}
	transactions, err := number(count, out)
	if err != nil {
		return r, err
	}
	// Their time counts once the postmaster has seen them go.
	for deadline := time.Now().Add(10 * time.Second); b.children() > children && time.Now().Before(deadline); {
		runtime.Gosched()
	}
	r.cost = float64((b.processorTime() - before).Microseconds()) / transactions
	r.rate, err = number(rate, out)
	return r, err
}

func number(pattern *regexp.Regexp, out []byte) (float64, error) {
	found := pattern.FindSubmatch(out)
	if found == nil {
		return 0, fmt.Errorf("pgbench does not say %s:\n%s", pattern, out)
	}
	return strconv.ParseFloat(string(found[1]), 64)
}

// processorTime is what all sessions together have taken that are over, as the
// kernel adds it up for the postmaster; 0 where the system does not tell.
func (b *bench) processorTime() time.Duration {
	const tick = 10 * time.Millisecond
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", b.server.PID()))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	var sum int64
	for _, field := range fields[13:15] { // cutime and cstime
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0
		}
		sum += ticks
	}
	return time.Duration(sum) * tick
}

// children is how many processes the postmaster has.
func (b *bench) children() int {
	pid := b.server.PID()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0
	}
	return len(strings.Fields(string(text)))
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
