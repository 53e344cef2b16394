package throwaway

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// CacheVariable names the environment variable that moves the cache.
const CacheVariable = "PG_TIDE_CACHE_DIR"

// systemCache is root's cache: unlike root's home, other users can read it,
// and the server's user has to.
const systemCache = "/var/cache/pg-tide"

// cacheDir is where fetched servers and prepared clusters are kept.
func cacheDir() (string, error) {
	if dir := os.Getenv(CacheVariable); dir != "" {
		return filepath.Join(dir, "postgres"), nil
	}
	if os.Geteuid() == 0 {
		return filepath.Join(systemCache, "postgres"), nil
	}
	if dir, err := os.UserCacheDir(); err == nil {
		dir = filepath.Join(dir, "pg-tide", "postgres")
		if os.MkdirAll(dir, 0o755) == nil {
			return dir, nil
		}
	}
	// A user without a home still gets a cache, if nobody else took its name.
	dir := filepath.Join(os.TempDir(), "pg-tide-cache-"+strconv.Itoa(os.Geteuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make a cache for PostgreSQL: %w", err)
	}
	if err := ownedByUs(dir); err != nil {
		return "", fmt.Errorf("use %s as a cache: %w; hint: set %s", dir, err, CacheVariable)
	}
	return filepath.Join(dir, "postgres"), nil
}

// lockCache holds name in the cache for this process alone, until release is
// called. Programs of several test processes come here at once.
func lockCache(ctx context.Context, cache, name string) (release func(), err error) {
	file, err := os.OpenFile(filepath.Join(cache, name+".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the cache's lock: %w", err)
	}
	err = poll(ctx, 50*time.Millisecond, func() (bool, error) { return tryLock(file) })
	if err != nil {
		_ = file.Close() // nothing was written
		return nil, fmt.Errorf("lock %s: %w", file.Name(), err)
	}
	return func() { _ = file.Close() }, nil // closing lets go of the lock
}

// poll calls done until it says true or fails, or the context ends.
func poll(ctx context.Context, every time.Duration, done func() (bool, error)) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		ok, err := done()
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
