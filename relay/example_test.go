package relay_test

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/relay"
	"github.com/pg-tide/pg-tide/tide/tidetest"
)

// A relay in a service's own process, until the service ends.
func ExampleNew() {
	t := &example{}
	defer t.close()
	db := tidetest.Open(t, pgtest.Server(t, 0).DSN("postgres"))

	ctx, cancel := context.WithCancel(context.Background())
	err := relay.New(relay.Config{
		PostgresURL: db.DSN,
		HTTPAddr:    "127.0.0.1:0",
		Listening: func(string) {
			fmt.Println("serving /metrics, /livez and /readyz")
			cancel() // in a service: when it is told to stop
		},
		Logger: slog.New(slog.DiscardHandler),
	}).Run(ctx)
	fmt.Println("ended with", err)
	// Output:
	// serving /metrics, /livez and /readyz
	// ended with <nil>
}

func ExampleConfig() {
	config := relay.Config{
		PostgresURL:  "postgres://user:pass@orders-db/orders",
		HTTPAddr:     "127.0.0.1:8433",
		DrainTimeout: 10 * time.Second,
	}
	fmt.Println(config.DrainTimeout)
	// Output: 10s
}

// What waiting cannot mend is an error, which does not show the password.
func ExampleRelay_Run() {
	err := relay.New(relay.Config{PostgresURL: "postgres://user:s3cret@host:port/db", Logger: slog.New(slog.DiscardHandler)}).Run(context.Background())
	fmt.Println(err != nil)
	// Output: true
}

// A relay beside the other tasks of a service.
func ExampleRelay() {
	ctx, stop := context.WithCancel(context.Background())
	r := relay.New(relay.Config{PostgresURL: "postgres://127.0.0.1:1/not-there-yet", Logger: slog.New(slog.DiscardHandler)})
	ended := make(chan error)
	go func() { ended <- r.Run(ctx) }()
	stop()
	fmt.Println(<-ended)
	// Output: <nil>
}
