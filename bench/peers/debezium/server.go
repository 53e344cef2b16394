// Package debezium is Debezium Server 3.6.1.Final, the distribution that its
// page "Debezium Server" tells to unpack, configured by
// application.properties and started by its own run.sh. It needs a Java that
// is at least 21 and takes the distribution by Maven.
package debezium

import (
	"context"
	_ "embed" // the configuration and the statements
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/bench/peers/target"
	"github.com/pg-tide/pg-tide/internal/broker/java"
	"github.com/pg-tide/pg-tide/internal/process"
)

// The outbox, how it is filled, how one event is put into it, and how one with
// an id that is known before.
var (
	//go:embed setup.sql
	SetupSQL string
	//go:embed fill.sql
	FillSQL string
	//go:embed publish.sql
	PublishSQL string
	//go:embed one.sql
	OneSQL string
	//go:embed application.properties
	properties string
	// Placement has the router put the columns into headers.
	//go:embed placement.properties
	Placement string
)

const (
	// Version is that of everything of Debezium here.
	Version = "3.6.1.Final"
	// Slot is what has to be there before the first event.
	Slot = "debezium"

	leastJava = 21
)

// Server is an unpacked distribution.
type Server struct {
	java, dir string
	// more is what With added to the configuration.
	more string
}

// With is the server with more lines of configuration.
func (s *Server) With(lines string) *Server {
	other := *s
	other.more += lines
	return &other
}

// Fetch gets the distribution and unpacks it into a folder, without the
// connectors of other databases.
func Fetch(ctx context.Context, dir string, notices io.Writer) (*Server, error) {
	runtime, err := java.Find(ctx, leastJava)
	if err != nil {
		return nil, fmt.Errorf("run Debezium Server %s: %w", Version, err)
	}
	archive, err := download(ctx, notices)
	if err != nil {
		return nil, err
	}
	unpack := exec.CommandContext(ctx, "tar", "xzf", archive, "-C", dir, "--exclude=*/connectors/*", "--exclude=*/lib_opt/*")
	if out, err := unpack.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("unpack Debezium Server: %w: %s", err, out)
	}
	return &Server{java: runtime.Home, dir: filepath.Join(dir, "debezium-server")}, nil
}

// download has Maven fetch the archive into its own repository, once.
func download(ctx context.Context, notices io.Writer) (string, error) {
	if _, err := exec.LookPath("mvn"); err != nil {
		return "", errors.New("there is no mvn to fetch Debezium Server with")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	name := "debezium-server-dist-" + Version + ".tar.gz"
	archive := filepath.Join(home, ".m2", "repository", "io", "debezium", "debezium-server-dist", Version, name)
	if _, err := os.Stat(archive); err == nil {
		return archive, nil
	}
	fmt.Fprintln(notices, "fetching Debezium Server (780 MB)")
	fetch := exec.CommandContext(ctx, "mvn", "-B", "-q", "dependency:get", "-Dtransitive=false",
		"-Dartifact=io.debezium:debezium-server-dist:"+Version+":tar.gz")
	if out, err := fetch.CombinedOutput(); err != nil {
		return "", fmt.Errorf("fetch Debezium Server: %w: %s", err, firstLine(out))
	}
	return archive, nil
}

func firstLine(text []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	return line
}

// configure writes the configuration. Where an earlier run on another database
// was is forgotten; a server that was killed goes on from where it was.
func (s *Server) configure(t target.Target) error {
	config, err := pgx.ParseConfig(t.Postgres)
	if err != nil {
		return err
	}
	text := os.Expand(properties, func(name string) string {
		return map[string]string{
			"nats": t.NATS, "subject": t.Subject, "host": config.Host, "port": strconv.Itoa(int(config.Port)),
			"user": config.User, "password": config.Password, "database": config.Database,
		}[name]
	}) + s.more
	path := filepath.Join(s.dir, "config", "application.properties")
	if before, err := os.ReadFile(path); err == nil && string(before) == text {
		return nil
	}
	if err := os.RemoveAll(filepath.Join(s.dir, "data")); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(s.dir, "data"), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o600)
}

// Start runs the server as its document tells, in its own folder.
func (s *Server) Start(ctx context.Context, t target.Target, log io.Writer) (*process.Process, error) {
	if err := s.configure(t); err != nil {
		return nil, err
	}
	return process.Start(ctx, process.Options{
		Program: "/bin/bash", Arguments: []string{"-c", `cd "$0" && exec ./run.sh`, s.dir},
		Environment: []string{"JAVA_HOME=" + s.java}, Output: log,
	})
}
