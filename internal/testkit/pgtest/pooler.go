package pgtest

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/pg-tide/pg-tide/internal/throwaway"
)

const poolerTimeout = 20 * time.Second

// Pooler runs PgBouncer in transaction mode before a server until the test
// ends, and returns what turns a DSN into one by way of it. Everybody is the
// superuser behind it. It skips the test where there is no PgBouncer.
func Pooler(t testing.TB, server *throwaway.Server) (through func(dsn string) string) {
	t.Helper()
	program := poolerProgram(t)
	port := freePort(t)
	dir, err := os.MkdirTemp("", "pg-tide-pooler-") //nolint:usetesting // root's pooler runs as another user, who must get there
	if err != nil {
		t.Fatalf("make a directory for PgBouncer: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // a leftover only takes room
	config := filepath.Join(dir, "pgbouncer.ini")
	text := fmt.Sprintf(`[databases]
* = host=127.0.0.1 port=%d user=postgres password=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 10
max_client_conn = 200
server_login_retry = 1
`, server.Port, server.Password, port)
	// Another user reads it. The password in it dies with the test.
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatalf("write PgBouncer's configuration: %v", err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	arguments := []string{"-q", config}
	if os.Geteuid() == 0 {
		arguments = append([]string{"-u", "nobody"}, arguments...)
	}
	runPooler(t, exec.Command(program, arguments...), port)
	return func(dsn string) string {
		u, err := url.Parse(dsn)
		if err != nil {
			t.Fatalf("read a DSN: %v", err)
		}
		u.Host = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		return u.String()
	}
}

func poolerProgram(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"pgbouncer", "/usr/sbin/pgbouncer"} {
		if program, err := exec.LookPath(name); err == nil {
			return program
		}
	}
	t.Skip("there is no PgBouncer on this machine (package pgbouncer), and nothing else pools transactions as it does")
	return ""
}

func freePort(t testing.TB) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("find a port: %v", err)
	}
	defer func() { _ = listener.Close() }() // the port is all that was wanted
	return listener.Addr().(*net.TCPAddr).Port
}

// runPooler starts the pooler, waits until it takes connections, and ends it
// with the test.
func runPooler(t testing.TB, command *exec.Cmd, port int) {
	t.Helper()
	output := &tail{}
	command.Stdout, command.Stderr = output, output
	if err := command.Start(); err != nil {
		t.Fatalf("start PgBouncer: %v", err)
	}
	ended := make(chan struct{})
	go func() {
		_ = command.Wait() // it is killed in the end
		close(ended)
	}()
	t.Cleanup(func() {
		_ = command.Process.Kill() // it may have ended
		<-ended
	})
	ctx, cancel := context.WithTimeout(t.Context(), poolerTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			_ = conn.Close() // only the answer was wanted
			return
		}
		select {
		case <-tick.C:
		case <-ended:
			t.Fatalf("PgBouncer ended at once:\n%s", output)
		case <-ctx.Done():
			t.Fatalf("PgBouncer takes no connections:\n%s", output)
		}
	}
}
