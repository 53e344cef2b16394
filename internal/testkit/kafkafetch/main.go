// Command kafkafetch brings the Kafka that the tests need into the user's
// cache, and says so. It needs Java and Maven.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/pg-tide/pg-tide/internal/broker/kafka"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if _, err := kafka.Fetch(ctx, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "kafkafetch: %v\n", err)
		os.Exit(1) //nolint:gocritic // there is nothing left to stop
	}
}
