package app

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"time"

	"github.com/pg-tide/pg-tide/internal/catalog"
	"github.com/pg-tide/pg-tide/schema"
)

const (
	firstRetry = 200 * time.Millisecond
	lastRetry  = 2 * time.Second
)

// reach opens the catalog, again and again until the database is there and has
// the schema. A service manager starts relay and database in any order, and a
// wrong password is mended without touching the relay, so every error is
// waited out; each is said once, when it changes. It returns nil when ctx ended first.
func reach(ctx context.Context, o Options, state *health) (*catalog.Catalog, error) {
	options := catalog.Options{ConnString: o.PostgresURL, Relay: identity(o.Version), Logger: o.Logger}
	said := ""
	for pause := firstRetry; ; pause = min(2*pause, lastRetry) {
		db, err := open(ctx, options)
		if ctx.Err() != nil {
			if db != nil {
				db.Close()
			}
			return nil, nil
		}
		if err == nil {
			return db, nil
		}
		if catalog.Misunderstood(err) {
			return nil, err
		}
		if reason := err.Error(); reason != said {
			said = reason
			state.waiting(reason)
			o.Logger.Warn("waiting for the database", "reason", reason)
		}
		if !sleep(ctx, pause) {
			return nil, nil
		}
	}
}

// open connects and makes sure that the schema is the one this binary knows.
func open(ctx context.Context, options catalog.Options) (*catalog.Catalog, error) {
	db, err := catalog.Open(ctx, options)
	if err != nil {
		return nil, err
	}
	conn, err := db.Pool().Acquire(ctx)
	if err == nil {
		err = schema.Verify(ctx, conn.Conn())
		conn.Release()
	}
	if err == nil {
		err = recognise(ctx, db, options.Logger)
	}
	if err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

// sleep waits, and says whether ctx is still alive.
func sleep(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// identity names this relay: a new UUID, so that a relay that is started again
// is not taken for the one before.
func identity(version string) catalog.RelayInfo {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return catalog.RelayInfo{
		ID:      fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:]),
		Host:    host,
		PID:     os.Getpid(),
		Version: version,
	}
}
