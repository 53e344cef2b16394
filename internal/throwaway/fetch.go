package throwaway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"time"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"

	"github.com/pg-tide/pg-tide/internal/cache"
)

// fetchTimeout bounds a download of about 15 MB.
const fetchTimeout = 5 * time.Minute

// cacheName is the folder of the cache that holds servers and prepared clusters.
const cacheName = "postgres"

// fetchedVersion is the newest build of each major that the library can get.
func fetchedVersion(major int) string {
	return map[int]string{14: "14.24.0", 15: "15.19.0", 16: "16.15.0", 17: "17.11.0", 18: "18.6.0"}[major]
}

// fetch returns the cached installation of that major, getting it first if
// nobody did. Processes that want it at once wait for the first of them.
func fetch(ctx context.Context, major int, notices io.Writer) (installation, error) {
	kept, err := cache.Dir(cacheName)
	if err != nil {
		return installation{}, err
	}
	version := fetchedVersion(major)
	// What root fetched may serve everybody.
	for _, dir := range []string{kept, filepath.Join(cache.System, cacheName)} {
		if found, err := inspect(ctx, filepath.Join(dir, version, "bin")); err == nil {
			return found, nil
		}
	}
	release, err := cache.Lock(ctx, kept, version)
	if err != nil {
		return installation{}, err
	}
	defer release()
	tree := filepath.Join(kept, version)
	if found, err := inspect(ctx, filepath.Join(tree, "bin")); err == nil {
		return found, nil
	}
	if _, err := fmt.Fprintf(notices, "fetching PostgreSQL %s for %s/%s (about 15 MB, once; kept in %s)\n",
		version, runtime.GOOS, runtime.GOARCH, tree); err != nil {
		return installation{}, fmt.Errorf("say what is fetched: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, fetchTimeout, fmt.Errorf("timed out after %s", fetchTimeout))
	defer cancel()
	if err := fetchTree(ctx, version, tree); err != nil {
		return installation{}, fmt.Errorf("fetch PostgreSQL %s: %w; hint: install PostgreSQL %d to %d, or make the network reachable",
			version, err, Oldest, Newest)
	}
	return inspect(ctx, filepath.Join(tree, "bin"))
}

// fetchTree downloads and unpacks beside tree and renames into place, so that
// a tree is whole or absent.
func fetchTree(ctx context.Context, version, tree string) error {
	stage, err := os.MkdirTemp(filepath.Dir(tree), "stage-")
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		defer func() { _ = os.RemoveAll(stage) }() // a leftover only takes room
		done <- download(version, stage, tree)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		// The library's download takes no context; it ends by itself, or with us.
		return context.Cause(ctx)
	}
}

// download lets the library get and unpack the programs. The library does so
// only on its way to starting a server, which we do ourselves: a data
// directory that cannot exist stops it right after. It makes the runtime
// directory between the two, which tells success from failure.
func download(version, stage, tree string) error {
	unpacked, reached := filepath.Join(stage, "tree"), filepath.Join(stage, "reached")
	err := embeddedpostgres.NewDatabase(embeddedpostgres.DefaultConfig().
		Version(embeddedpostgres.PostgresVersion(version)).
		Port(0).
		CachePath(filepath.Join(stage, "archive")).
		BinariesPath(unpacked).
		RuntimePath(reached).
		DataPath(stage + "/impossible/.").
		Logger(io.Discard)).Start()
	http.DefaultClient.CloseIdleConnections()
	if _, statErr := os.Stat(reached); statErr != nil {
		if err == nil {
			err = errors.New("the library unpacked nothing")
		}
		return err
	}
	if err := readableByAll(unpacked); err != nil {
		return err
	}
	if err := os.RemoveAll(tree); err != nil { // what a broken run left
		return err
	}
	return os.Rename(unpacked, tree)
}

// readableByAll undoes a narrow umask: root's servers run as another user.
func readableByAll(tree string) error {
	return filepath.WalkDir(tree, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Type()&fs.ModeSymlink != 0 {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		mode := info.Mode().Perm() | 0o444
		if entry.IsDir() || mode&0o100 != 0 {
			mode |= 0o111
		}
		return os.Chmod(path, mode)
	})
}
