package tide_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pg-tide/pg-tide/tide"
	"github.com/pg-tide/pg-tide/tide/tidetest"
)

// as is a pool of a role with no rights but those of a member of another.
func as(t *testing.T, db *tidetest.DB, member string) *pgxpool.Pool {
	t.Helper()
	config := db.Pool.Config()
	name := pgx.Identifier{config.ConnConfig.Database + "_" + member}.Sanitize()
	db.Exec(fmt.Sprintf(`create role %s login password 'x' in role %s`, name, member))
	t.Cleanup(func() {
		// The test's context has ended by now.
		if _, err := db.Pool.Exec(context.Background(), fmt.Sprintf(`drop owned by %s; drop role %[1]s`, name)); err != nil {
			t.Error(err)
		}
	})
	config.ConnConfig.User, config.ConnConfig.Password = strings.Trim(name, `"`), "x"
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func TestTheRolesForPublishingAndWorkingAreEnough(t *testing.T) {
	db := database(t, 0)
	publisher := as(t, db, "tide_publisher")
	if _, err := tide.PublishMany(t.Context(), publisher, "o", []tide.Event{{Payload: 1}, {Payload: 2}}); err != nil {
		t.Error(err)
	}
	consumer := as(t, db, "tide_consumer")
	db.Exec(`grant all on effect to public; grant all on sequence effect_at_seq to public`)
	w := start(t, &tidetest.DB{Pool: consumer}, tide.WorkerConfig{}, func(w *tide.Worker) { w.HandleOthers(effect) })
	w.WaitFor(t, deliver(db, "k"), tide.Processed)
	wantEffects(t, db, 1)
	if err := w.stopped(); err != nil {
		t.Error(err)
	}
	if _, err := tide.Publish(t.Context(), consumer, "o", tide.Event{Payload: 1}); err == nil || !strings.Contains(err.Error(), "42501") {
		t.Errorf("a consumer published: %v", err)
	}
	stranger, err := tide.NewWorker(publisher, tide.WorkerConfig{Inbox: "i", Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	stranger.HandleOthers(effect)
	if err := stranger.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "42501") {
		t.Errorf("a publisher worked an inbox: %v", err)
	}
}
