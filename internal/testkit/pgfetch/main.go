// Command pgfetch brings the PostgreSQL servers that the tests need into the
// user's cache, one line for each that is fetched. `go test` would hide those
// lines, and let the first test of a package wait without a word.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/pg-tide/pg-tide/internal/throwaway"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	for major := throwaway.Oldest; major <= throwaway.Newest; major++ {
		server, err := throwaway.Start(ctx, throwaway.Options{Major: major, Notices: os.Stdout})
		if err == nil {
			err = server.Close()
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "pgfetch: PostgreSQL %d: %v\n", major, err)
			os.Exit(1) //nolint:gocritic // the servers are closed
		}
	}
}
