// Command peers runs pg_tide beside what people use or write instead, each as
// its own documents tell, in turns and on the same servers; "peers layout
// PROGRAM" compares the wire format "debezium" of that pg-tide with what
// Debezium Server sends. See README.md.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pg-tide/pg-tide/bench/peers/claims"
	"github.com/pg-tide/pg-tide/bench/peers/contest"
	"github.com/pg-tide/pg-tide/bench/peers/decoding"
	"github.com/pg-tide/pg-tide/bench/peers/insert"
	"github.com/pg-tide/pg-tide/bench/peers/notify"
	"github.com/pg-tide/pg-tide/bench/peers/river"
	"github.com/pg-tide/pg-tide/bench/peers/skiplocked"
	"github.com/pg-tide/pg-tide/bench/peers/target"
	"github.com/pg-tide/pg-tide/bench/peers/watermill"
)

// againPause is what a loop rests before it begins anew after an error, as a
// service manager would have it.
const againPause = 200 * time.Millisecond

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if len(os.Args) == 3 && os.Args[1] == "loop" {
		return loop(ctx, os.Args[2])
	}
	if len(os.Args) == 4 && os.Args[1] == "work" {
		return work(ctx, os.Args[2], os.Args[3])
	}
	if len(os.Args) == 3 && os.Args[1] == "layout" {
		return contest.Layout(ctx, contest.Options{Program: os.Args[2], Progress: os.Stderr}, os.Stdout)
	}
	return measure(ctx)
}

// loops are the peers written in Go, each in a process of its own.
func loops() map[string]func(ctx context.Context, t target.Target) error {
	type work = func(ctx context.Context, t target.Target) error
	workers := func(of func(ctx context.Context, t target.Target, workers int) error, n int) work {
		return func(ctx context.Context, t target.Target) error { return of(ctx, t, n) }
	}
	jobs := func(way river.Way) work {
		return func(ctx context.Context, t target.Target) error { return river.Run(ctx, t, way) }
	}
	return map[string]work{
		"decoding": decoding.Run, "notify": notify.Run, "watermill": watermill.Run,
		"skiplocked-1": workers(skiplocked.Run, 1), "skiplocked-4": workers(skiplocked.Run, 4),
		"insert-1": workers(insert.Run, 1), "insert-16": workers(insert.Run, 16),
		"river-each": jobs(river.Each), "river-many": jobs(river.Many), "river-fast": jobs(river.Fast),
	}
}

func loop(ctx context.Context, name string) error {
	work, known := loops()[name]
	if !known {
		return fmt.Errorf("there is no loop %q", name)
	}
	t, err := target.FromEnvironment()
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, work(ctx, t))
		select {
		case <-time.After(againPause):
		case <-ctx.Done():
		}
	}
	return nil // it was told to stop
}

// work settles so many messages and says how fast.
func work(ctx context.Context, name, number string) error {
	messages, err := strconv.Atoi(number)
	if err != nil {
		return err
	}
	t, err := target.FromEnvironment()
	if err != nil {
		return err
	}
	switch name {
	case "tide-sql":
		return claims.SQL(ctx, t.Postgres, messages, os.Stdout)
	case "tide-library":
		return claims.Library(ctx, t.Postgres, messages, os.Stdout)
	case "river":
		return river.Work(ctx, t.Postgres, messages, os.Stdout)
	}
	return fmt.Errorf("there is no worker %q", name)
}

func measure(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	o := contest.Options{Self: self, Progress: os.Stderr}
	var path, only, markdown string
	flag.StringVar(&o.Program, "program", "", "the pg-tide that is measured")
	flag.IntVar(&o.Events, "events", 100_000, "events of a backlog")
	flag.IntVar(&o.SlowEvents, "slow-events", 5_000, "events of the backlog of those that move one at a time")
	flag.IntVar(&o.Size, "size", 200, "bytes of a payload")
	flag.IntVar(&o.Rounds, "rounds", 3, "rounds, after a smaller one that warms up")
	flag.DurationVar(&o.Writing, "writing", 12*time.Second, "how long overlapping transactions are written")
	flag.StringVar(&only, "only", "", "words of the peers' names, by commas; all without it")
	flag.StringVar(&o.Part, "part", "", "measure one part alone: forward, reverse, publish, overlap or work")
	flag.StringVar(&path, "json", "", "a file to write the report to")
	flag.StringVar(&markdown, "markdown", "", "a report to print as the tables of docs/peers.md; nothing is measured")
	flag.Parse()
	if flag.NArg() > 0 {
		return fmt.Errorf("there is no argument %q", flag.Arg(0))
	}
	if markdown != "" {
		return printMarkdown(markdown)
	}
	if o.Program == "" || o.Events < 1000 || o.SlowEvents < 1000 || o.Size < 40 || o.Rounds < 1 || o.Writing < time.Second {
		return errors.New("-program must be given, -events and -slow-events be 1000 at least, -size 40, -rounds 1 and -writing 1s")
	}
	if only != "" {
		o.Only = strings.Split(only, ",")
	}
	r, err := contest.Run(ctx, o)
	if err != nil {
		return err
	}
	r.Print(os.Stdout)
	if path == "" {
		return nil
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

func printMarkdown(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var r contest.Report
	if err := json.Unmarshal(text, &r); err != nil {
		return fmt.Errorf("read the report %s: %w", path, err)
	}
	r.Markdown(os.Stdout)
	return nil
}
