// Package cache is the folder in which programs that were fetched are kept:
// one for each user, or root's for all. It makes each of them whole or not at
// all, and refuses a folder that belongs to somebody else.
package cache

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Variable names the environment variable that moves the cache.
const Variable = "PG_TIDE_CACHE_DIR"

// System is root's cache: unlike root's home, other users can read it.
const System = "/var/cache/pg-tide"

// lockEvery is how often a lock that another process holds is tried.
const lockEvery = 50 * time.Millisecond

// Dir is where what has that name is kept. It exists.
func Dir(name string) (string, error) {
	dir, err := parent()
	if err == nil {
		dir = filepath.Join(dir, name)
		err = os.MkdirAll(dir, 0o755)
	}
	if err != nil {
		return "", fmt.Errorf("make a cache for %s: %w; hint: set %s", name, err, Variable)
	}
	return dir, nil
}

func parent() (string, error) {
	if dir := os.Getenv(Variable); dir != "" {
		return dir, nil
	}
	if os.Geteuid() == 0 {
		return System, nil
	}
	if dir, err := os.UserCacheDir(); err == nil {
		dir = filepath.Join(dir, "pg-tide")
		if os.MkdirAll(dir, 0o755) == nil {
			return dir, nil
		}
	}
	// A user without a home still gets a cache, if nobody else took its name.
	dir := filepath.Join(os.TempDir(), "pg-tide-cache-"+strconv.Itoa(os.Geteuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	return dir, ownedByUs(dir)
}

// Lock holds a name in a folder of the cache for this process alone, until
// release is called. Programs of several test processes come here at once.
func Lock(ctx context.Context, dir, name string) (release func(), err error) {
	file, err := os.OpenFile(filepath.Join(dir, name+".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the cache's lock: %w", err)
	}
	if err := await(ctx, file); err != nil {
		_ = file.Close() // nothing was written
		return nil, fmt.Errorf("lock %s: %w", file.Name(), err)
	}
	return func() { _ = file.Close() }, nil // closing lets go of the lock
}

func await(ctx context.Context, file *os.File) error {
	ticker := time.NewTicker(lockEvery)
	defer ticker.Stop()
	for {
		ok, err := TryLock(file)
		if err != nil || ok {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}
