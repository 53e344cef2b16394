package kafka

import (
	"context"
	_ "embed" // the pom
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/pg-tide/pg-tide/internal/broker/java"
	"github.com/pg-tide/pg-tide/internal/cache"
)

//go:embed pom.xml
var pom []byte

const (
	// Version is that of the broker.
	Version = "4.4.0"

	leastJava = 17
	cacheName = "kafka"
	// fetchTimeout bounds a download of about 45 MB.
	fetchTimeout = 20 * time.Minute
	// archiveTimeout bounds the one start that is made to speed up the others.
	archiveTimeout = 10 * time.Minute
)

// Programs are a broker's jars and the Java that runs them.
type Programs struct {
	java java.Runtime
	jars string
	// classes is an archive of what a broker loads, ready for use: it halves
	// the time of a start. There may be none.
	classes string
}

// Fetch returns the broker's programs. Who asks first has Maven get them;
// processes that want them at once wait for that.
func Fetch(ctx context.Context, notices io.Writer) (*Programs, error) {
	runtime, err := java.Find(ctx, leastJava)
	if err != nil {
		return nil, fmt.Errorf("run Kafka %s: %w", Version, err)
	}
	kept, err := cache.Dir(cacheName)
	if err != nil {
		return nil, err
	}
	name := Version + "-java-" + runtime.Version
	for _, dir := range []string{kept, filepath.Join(cache.System, cacheName)} {
		if p := inspect(runtime, filepath.Join(dir, name)); p != nil {
			return p, nil
		}
	}
	release, err := cache.Lock(ctx, kept, name)
	if err != nil {
		return nil, err
	}
	defer release()
	tree := filepath.Join(kept, name)
	if p := inspect(runtime, tree); p != nil {
		return p, nil
	}
	fmt.Fprintf(notices, "fetching Kafka %s by Maven (about 45 MB, once; kept in %s)\n", Version, tree)
	if err := fetchTree(ctx, runtime, tree); err != nil {
		return nil, fmt.Errorf("fetch Kafka %s: %w", Version, err)
	}
	return inspect(runtime, tree), nil
}

// inspect returns what a tree holds, or nil.
func inspect(runtime java.Runtime, tree string) *Programs {
	p := &Programs{java: runtime, jars: filepath.Join(tree, "lib"), classes: filepath.Join(tree, "classes.jsa")}
	if _, err := os.Stat(p.jars); err != nil {
		return nil
	}
	if _, err := os.Stat(p.classes); err != nil {
		p.classes = ""
	}
	return p
}

// fetchTree fetches beside tree and renames into place, so that a tree is
// whole or absent.
func fetchTree(ctx context.Context, runtime java.Runtime, tree string) error {
	if _, err := exec.LookPath("mvn"); err != nil {
		return errors.New("there is no mvn to fetch it with; hint: install Maven, on Debian the package maven")
	}
	ctx, cancel := context.WithTimeoutCause(ctx, fetchTimeout, fmt.Errorf("timed out after %s", fetchTimeout))
	defer cancel()
	stage, err := os.MkdirTemp(filepath.Dir(tree), "stage-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(stage) }() // a leftover only takes room
	if err := os.Chmod(stage, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(stage, "pom.xml"), pom, 0o644); err != nil {
		return err
	}
	jars := filepath.Join(stage, "lib")
	fetch := exec.CommandContext(ctx, "mvn", "-B", "-q", "-f", stage, "-Dkafka.version="+Version,
		"dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory="+jars)
	if out, err := fetch.CombinedOutput(); err != nil {
		return errors.Join(fmt.Errorf("run mvn: %w: %s", err, firstLine(out)), context.Cause(ctx))
	}
	// what a broken run left
	if err := os.RemoveAll(tree); err != nil {
		return err
	}
	if err := os.Rename(stage, tree); err != nil {
		return err
	}
	return archive(ctx, inspect(runtime, tree), filepath.Join(tree, "classes.jsa"))
}

// archive starts a broker once, and has Java write down the classes that it
// loaded. The jars' path is part of what it writes.
func archive(ctx context.Context, p *Programs, into string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, archiveTimeout, fmt.Errorf("timed out after %s", archiveTimeout))
	defer cancel()
	dir, err := os.MkdirTemp("", "pg-tide-kafka-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // a leftover only takes room
	c, err := New(ctx, p, Options{Dir: dir, javaFlags: []string{"-XX:ArchiveClassesAtExit=" + into + ".new"}})
	if err != nil {
		return err
	}
	defer c.Kill()
	if err := c.Start(ctx); err != nil {
		return err
	}
	if err := c.stop(archiveTimeout); err != nil {
		return err
	}
	return os.Rename(into+".new", into)
}

func firstLine(text []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	return line
}
