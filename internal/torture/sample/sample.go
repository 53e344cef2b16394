// Package sample watches a tortured bus from outside: memory, goroutines and
// files of the relays, their connections, and transactions that they leave
// open. It changes nothing.
package sample

import (
	"bufio"
	"context"
	"embed"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/torture/world"
)

//go:embed queries/*.sql
var queryFiles embed.FS

// query returns the statement of that name. The files are part of the
// program, so a missing one is found by the first test that runs.
func query(name string) string {
	text, err := queryFiles.ReadFile("queries/" + name + ".sql")
	if err != nil {
		return fmt.Sprintf("-- no statement %q", name)
	}
	return string(text)
}

const (
	openEvery    = 500 * time.Millisecond
	processEvery = 2 * time.Second
	askTimeout   = 700 * time.Millisecond
)

// Use is what a relay uses.
type Use struct {
	Bytes      int64 `json:"bytes"`
	Goroutines int64 `json:"goroutines"`
	Files      int64 `json:"files"`
}

func (u Use) most(other Use) Use {
	return Use{max(u.Bytes, other.Bytes), max(u.Goroutines, other.Goroutines), max(u.Files, other.Files)}
}

// OpenTransaction is one that was open while its relay did something else.
type OpenTransaction struct {
	Database string  `json:"database"`
	PID      int     `json:"pid"`
	Seconds  float64 `json:"seconds"`
	Query    string  `json:"query"`
}

// Setback is a position that moved back, though nobody had asked for it: a
// superseded owner has saved.
type Setback struct {
	Pipeline string `json:"pipeline"`
	Save     int64  `json:"save"`
	From     int64  `json:"from"`
	To       int64  `json:"to"`
}

// saved is the newest save that was seen of a pipeline.
type saved struct{ seq, last int64 }

// Watch watches a world.
type Watch struct {
	World *world.World
	// Excused says that a database's relays may have been hindered by us
	// lately, so that an open transaction means nothing.
	Excused func(database string) bool

	mu          sync.Mutex
	most        map[string]Use
	connections map[string]int64
	open        []OpenTransaction
	setbacks    []Setback
	saves       map[string]saved
	suspects    map[string]map[int]time.Time // by cluster and process, when the transaction began
}

// Run samples until ctx ends.
func (w *Watch) Run(ctx context.Context) {
	w.saves = map[string]saved{}
	w.most, w.connections, w.suspects = map[string]Use{}, map[string]int64{}, map[string]map[int]time.Time{}
	publishers := w.World.Publishers()
	conns, inside := make([]*pgx.Conn, len(w.World.Clusters)), make([]*pgx.Conn, len(publishers))
	defer func() {
		for _, conn := range slices.Concat(conns, inside) {
			if conn != nil {
				_ = conn.Close(context.WithoutCancel(ctx)) // its work is done
			}
		}
	}()
	open, processes := time.NewTicker(openEvery), time.NewTicker(processEvery)
	defer open.Stop()
	defer processes.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-open.C:
			for i, cluster := range w.World.Clusters {
				conns[i] = w.lookAt(ctx, cluster.Server.DSN("postgres"), conns[i], func(ctx context.Context, conn *pgx.Conn) error {
					return w.ask(ctx, cluster.Name, conn)
				})
			}
			for i, s := range publishers {
				if inside[i] == nil {
					w.forgetSaves() // after a crash what was saved last may be gone, ids included
				}
				inside[i] = w.lookAt(ctx, s.DSN(), inside[i], w.positions)
			}
		case <-processes.C:
			for _, r := range w.World.Relays() {
				if use, err := Ask(ctx, r); err == nil {
					w.note(r.Name, use)
				}
			}
		}
	}
}

func (w *Watch) note(name string, use Use) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.most[name] = w.most[name].most(use)
}

// lookAt asks one database, on a connection that is kept while it works.
func (w *Watch) lookAt(ctx context.Context, dsn string, conn *pgx.Conn, ask func(context.Context, *pgx.Conn) error) *pgx.Conn {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if conn == nil || conn.IsClosed() {
		var err error
		if conn, err = pgx.Connect(ctx, dsn); err != nil {
			return nil
		}
	}
	if err := ask(ctx, conn); err != nil {
		_ = conn.Close(context.WithoutCancel(ctx)) // a crash took it
		return nil
	}
	return conn
}

func (w *Watch) ask(ctx context.Context, cluster string, conn *pgx.Conn) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var database string
	var count int64
	rows, err := conn.Query(ctx, query("connections"))
	if err != nil {
		return err
	}
	if _, err := pgx.ForEachRow(rows, []any{&database, &count}, func() error {
		w.connections[database] = max(w.connections[database], count)
		return nil
	}); err != nil {
		return err
	}
	if rows, err = conn.Query(ctx, query("open")); err != nil {
		return err
	}
	var begun time.Time
	var one OpenTransaction
	seen := map[int]time.Time{}
	_, err = pgx.ForEachRow(rows, []any{&one.Database, &one.PID, &begun, &one.Seconds, &one.Query}, func() error {
		if w.Excused(one.Database) {
			return nil
		}
		// Once may be a relay that got no time to run; twice is a habit.
		if w.suspects[cluster][one.PID].Equal(begun) {
			w.open = append(w.open, one)
		}
		seen[one.PID] = begun
		return nil
	})
	w.suspects[cluster] = seen
	return err
}

func (w *Watch) forgetSaves() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.saves)
}

// positions looks whether one has moved back.
func (w *Watch) positions(ctx context.Context, conn *pgx.Conn) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	rows, err := conn.Query(ctx, query("positions"))
	if err != nil {
		return err
	}
	var name string
	var now saved
	_, err = pgx.ForEachRow(rows, []any{&name, &now.seq, &now.last}, func() error {
		before, seen := w.saves[name]
		if seen && now.seq <= before.seq {
			return nil
		}
		if seen && now.last < before.last {
			w.setbacks = append(w.setbacks, Setback{Pipeline: name, Save: now.seq, From: before.last, To: now.last})
		}
		w.saves[name] = now
		return nil
	})
	return err
}

// Setbacks lists the positions that moved back.
func (w *Watch) Setbacks() []Setback {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.setbacks)
}

// Most is the most that each relay used.
func (w *Watch) Most() map[string]Use {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.most)
}

// Connections is the most that the relays of each database had.
func (w *Watch) Connections() map[string]int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.connections)
}

// Open lists the transactions that relays left open.
func (w *Watch) Open() []OpenTransaction {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.open)
}

// Ask asks a relay what it uses.
func Ask(ctx context.Context, r *world.Relay) (Use, error) {
	address := r.Log.Address()
	if address == "" || r.PID() == 0 {
		return Use{}, fmt.Errorf("the relay %s serves nothing yet", r.Name)
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", http.NoBody)
	if err != nil {
		return Use{}, err
	}
	request.Close = true // no connection stays behind
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return Use{}, fmt.Errorf("ask the relay %s: %w", r.Name, err)
	}
	defer func() { _ = answer.Body.Close() }() // it was only read
	var use Use
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		number, err := strconv.ParseFloat(value, 64)
		if err != nil {
			continue
		}
		switch name {
		case "process_resident_memory_bytes":
			use.Bytes = int64(number)
		case "go_goroutines":
			use.Goroutines = int64(number)
		case "process_open_fds":
			use.Files = int64(number)
		}
	}
	return use, lines.Err()
}
