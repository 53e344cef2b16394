package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/schema"
)

// tutorialDatabases are empty ones, for the three services that the tutorial
// sets up by hand.
func tutorialDatabases() []string {
	return []string{"tutorial_orders", "tutorial_payments", "tutorial_shipping"}
}

// stay makes room for typing the tutorial, says how to reach everything and
// waits for the end of ctx.
func (s *show) stay(ctx context.Context) error {
	var err error
	// A broker of its own: the tutorial's names are those of the demo.
	if s.tutorialBroker, err = s.newBus(ctx, "nats-tutorial"); err != nil {
		return err
	}
	if err := placeExtension(filepath.Join(s.postgres.ShareDir, "extension")); err != nil {
		return err
	}
	for _, name := range tutorialDatabases() {
		if err := createDatabase(ctx, s.postgres, name); err != nil {
			return err
		}
	}
	if err := s.createTutorialTable(ctx); err != nil {
		return err
	}
	say := s.screen.say
	say("\nEverything stays up until ctrl-C. The demo's services, with their relays running:\n")
	for _, one := range s.services() {
		say("  %-10s %s", one.name, one.dsn)
	}
	say("  %-10s %s", s.broker.name(), s.broker.url())
	say("\nTo type the tutorial along, empty databases and a %s of their own:\n", s.broker.name())
	for _, name := range tutorialDatabases() {
		say("  %-18s %s", name, s.postgres.DSN(name))
	}
	say("  %-18s %s   (where the tutorial has %s)", s.broker.name(), s.tutorialBroker.url(), s.tutorialBroker.inTutorial())
	say("\nCREATE EXTENSION pg_tide works in them, and tutorial_orders has the table orders.")
	say("Start a relay, step 4, with: pg-tide --postgres-url %q", s.postgres.DSN(tutorialDatabases()[0]))
	<-ctx.Done()
	var background *failure
	if errors.As(context.Cause(ctx), &background) {
		return background
	}
	return nil
}

func (s *show) createTutorialTable(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.postgres.DSN(tutorialDatabases()[0]))
	if err != nil {
		return fmt.Errorf("connect to the tutorial's database: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // its work is done
	if _, err := conn.Exec(ctx, query("tutorial_table")); err != nil {
		return fmt.Errorf("create the tutorial's table: %w", err)
	}
	return nil
}

// placeExtension writes the extension's files where the throwaway server,
// and no other, looks for them.
func placeExtension(dir string) error {
	files, err := schema.Files()
	if err != nil {
		return fmt.Errorf("make the extension's files: %w", err)
	}
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(dir, f.Name), f.Content, 0o644); err != nil {
			return fmt.Errorf("place the extension's files: %w", err)
		}
	}
	return nil
}
