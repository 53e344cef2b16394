package throwaway

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/pg-tide/pg-tide/internal/cache"
)

// childVariable makes the test program a process that starts a server, says
// where, and waits for the end of its input.
const childVariable = "PG_TIDE_TEST_THROWAWAY_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		if err := child(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

func child() error {
	server, err := Start(context.Background(), Options{})
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(context.Background(), server.DSN("postgres"))
	if err != nil {
		return err
	}
	fmt.Println(server.PID(), filepath.Dir(server.DataDir))
	_, _ = io.Copy(io.Discard, os.Stdin) // until we are told to go
	return joinErrors(conn.Close(context.Background()), server.Close())
}

func joinErrors(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func start(t *testing.T, options Options) *Server {
	t.Helper()
	options.Notices = os.Stderr
	server, err := Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return server
}

func query(t *testing.T, dsn, text string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	var answer string
	if err := conn.QueryRow(t.Context(), text).Scan(&answer); err != nil {
		t.Fatal(err)
	}
	return answer
}

func TestCloseRemovesEverything(t *testing.T) {
	t.Parallel()
	server := start(t, Options{})
	dir, pid := filepath.Dir(server.DataDir), server.PID()
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s is still there (%v)", dir, err)
	}
	if err := syscall.Kill(pid, 0); err == nil {
		t.Errorf("process %d still runs", pid)
	}
	if err := server.Close(); err != nil {
		t.Errorf("closing again: %v", err)
	}
}

func TestDataSurviveStopCrashAndKill(t *testing.T) {
	t.Parallel()
	server := start(t, Options{Durable: true})
	dsn := server.DSN("postgres")
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if _, err := conn.Exec(t.Context(), "create table kept as select 'kept' as word"); err != nil {
		t.Fatal(err)
	}
	ways := map[string]func(context.Context) error{"stop": server.Stop, "crash": server.Crash, "kill": server.Kill}
	for name, end := range ways {
		if err := end(t.Context()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if server.PID() != 0 {
			t.Fatalf("%s: it says that it runs", name)
		}
		if err := end(t.Context()); err != nil {
			t.Fatalf("%s again: %v", name, err)
		}
		if err := server.Start(t.Context()); err != nil {
			t.Fatalf("start after %s: %v", name, err)
		}
		if got := query(t, dsn, "select word from kept"); got != "kept" {
			t.Fatalf("after %s: %q", name, got)
		}
	}
	if err := server.Start(t.Context()); err == nil {
		t.Error("started twice")
	}
}

func TestPortAsksForThePasswordAndSocketDoesNot(t *testing.T) {
	t.Parallel()
	server := start(t, Options{})
	if got := query(t, server.SocketDSN("postgres"), "select current_user::text"); got != "postgres" {
		t.Errorf("got %q", got)
	}
	dsn, err := url.Parse(server.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	dsn.User = url.UserPassword("postgres", "wrong")
	if conn, err := pgx.Connect(t.Context(), dsn.String()); err == nil {
		t.Error("let in with a wrong password", conn.Close(t.Context()))
	}
}

func TestSettingsReachTheServer(t *testing.T) {
	t.Parallel()
	server := start(t, Options{Settings: map[string]string{"wal_level": "logical", "fsync": "on"}})
	if got := query(t, server.DSN("postgres"), "select current_setting('wal_level') || current_setting('fsync')"); got != "logicalon" {
		t.Errorf("got %q", got)
	}
}

func TestWrongSettingShowsWhatTheServerSays(t *testing.T) {
	t.Parallel()
	_, err := Start(t.Context(), Options{Settings: map[string]string{"no_such_thing": "1"}})
	if err == nil || !strings.Contains(err.Error(), `unrecognized configuration parameter "no_such_thing"`) {
		t.Errorf("got %v", err)
	}
}

func TestUnsupportedMajorIsRefused(t *testing.T) {
	t.Parallel()
	if _, err := Start(t.Context(), Options{Major: 9}); err == nil || !strings.Contains(err.Error(), "14 to 18") {
		t.Errorf("got %v", err)
	}
}

func TestOwnIdentityDiffers(t *testing.T) {
	t.Parallel()
	const identity = "select system_identifier::text from pg_control_system()"
	first, second := start(t, Options{OwnIdentity: true}), start(t, Options{OwnIdentity: true})
	if query(t, first.DSN("postgres"), identity) == query(t, second.DSN("postgres"), identity) {
		t.Error("both are the same")
	}
}

func TestExtensionFilesGoIntoThePrivateTree(t *testing.T) {
	for _, options := range []Options{{PrivateTree: true}, {PrivateTree: true, Major: 15, Fetched: true}} {
		server := start(t, options)
		dir := filepath.Join(server.ShareDir, "extension")
		files := map[string]string{
			"tried.control":  "default_version = '1'\n",
			"tried--1.sql":   "create function tried() returns text language sql as $$ select 'yes' $$;\n",
			"unrelated.text": "",
		}
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		conn, err := pgx.Connect(t.Context(), server.DSN("postgres"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close(context.Background()) }()
		for _, statement := range []string{"create extension tried", "do language plpgsql 'begin end'"} {
			if _, err := conn.Exec(t.Context(), statement); err != nil {
				t.Error(err)
			}
		}
		if got := query(t, server.DSN("postgres"), "select tried()"); got != "yes" {
			t.Errorf("got %q", got)
		}
	}
}

func TestNoticeSaysWhatIsFetched(t *testing.T) {
	t.Setenv(cache.Variable, reachableDir(t))
	var notices bytes.Buffer
	server, err := Start(t.Context(), Options{Major: Oldest, Fetched: true, Notices: &notices})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	// What root's cache has is used by all, and then nothing is fetched.
	_, statErr := os.Stat(filepath.Join(cache.System, cacheName, fetchedVersion(Oldest)))
	if got := notices.String(); (statErr != nil) != strings.Contains(got, "fetching PostgreSQL 14.") || strings.Count(got, "\n") > 1 {
		t.Errorf("got %q", got)
	}
}

// reachableDir is a temporary directory that other users may enter.
func reachableDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, open := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(open, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// startChild runs this program again with a server of its own, and returns
// that server's pid and directory once it runs.
func startChild(t *testing.T, program string, attributes *syscall.SysProcAttr, variables ...string) (command *exec.Cmd, input io.Closer, pid int, dir string) {
	t.Helper()
	command = exec.Command(program)
	command.Dir = "/"
	command.Env = append(append(os.Environ(), childVariable+"=1"), variables...)
	command.SysProcAttr = attributes
	command.Stderr = os.Stderr
	stdin, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the child said nothing: %v, %v", err, command.Wait())
	}
	if _, err := fmt.Sscan(line, &pid, &dir); err != nil {
		t.Fatalf("the child said %q", line)
	}
	return command, stdin, pid, dir
}

func TestOrdinaryUserCanStartAServer(t *testing.T) {
	program, attributes, variables := os.Args[0], &syscall.SysProcAttr{}, []string(nil)
	if os.Geteuid() == 0 {
		// The go command builds tests where no other user may go.
		dir := reachableDir(t)
		program = filepath.Join(dir, "program")
		if err := copyFile(os.Args[0], program, 0o755); err != nil {
			t.Fatal(err)
		}
		attributes.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
		if err := os.Chown(dir, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		variables = []string{"HOME=/nonexistent", "XDG_CACHE_HOME=", "TMPDIR=" + dir}
	}
	command, input, _, dir := startChild(t, program, attributes, variables...)
	if err := joinErrors(input.Close(), command.Wait()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s is still there (%v)", dir, err)
	}
}

func TestServerEndsWithItsKilledParentAndIsSweptUp(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("this system cannot bind a process to its parent")
	}
	command, _, pid, dir := startChild(t, os.Args[0], &syscall.SysProcAttr{})
	if err := command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = command.Wait() // killed
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err := poll(ctx, 10*time.Millisecond, func() (bool, error) { return syscall.Kill(pid, 0) != nil, nil })
	if err != nil {
		t.Fatalf("the server still runs: %v", err)
	}
	start(t, Options{})
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s is still there (%v)", dir, err)
	}
}
