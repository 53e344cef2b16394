package natstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const serverModule = "github.com/nats-io/nats-server/v2"

type process struct {
	cmd  *exec.Cmd
	done chan error
}

func runProcess(config string, port int) (*process, error) {
	path, err := Binary()
	if err != nil {
		return nil, err
	}
	var output bytes.Buffer
	cmd := exec.Command(path, "-c", config)
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	p := &process{cmd: cmd, done: make(chan error, 1)}
	go func() { p.done <- cmd.Wait() }()
	if err := p.awaitReady(port); err != nil {
		p.kill()
		return nil, fmt.Errorf("%w: %s", err, output.String())
	}
	return p, nil
}

// awaitReady waits for the greeting that the server sends once it serves.
func (p *process) awaitReady(port int) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if greeted(ctx, port) {
			return nil
		}
		select {
		case err := <-p.done:
			p.done <- err
			return fmt.Errorf("ended at once: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("not ready within %s", startTimeout)
		case <-tick.C:
		}
	}
}

func greeted(ctx context.Context, port int) bool {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }() // only the greeting was wanted
	greeting := make([]byte, 4)
	if err := conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		return false
	}
	_, err = conn.Read(greeting)
	return err == nil && string(greeting) == "INFO"
}

func (p *process) stop() {
	if err := p.cmd.Process.Signal(os.Interrupt); err == nil {
		select {
		case <-p.done:
			return
		case <-time.After(startTimeout):
		}
	}
	p.kill()
}

func (p *process) kill() {
	if err := p.cmd.Process.Kill(); err == nil || errors.Is(err, os.ErrProcessDone) {
		<-p.done
	}
}

// Binary builds the server that go.mod names, once for the user's cache, and
// returns its path.
func Binary() (string, error) { return binary() }

// binary asks the go command once for each test process.
var binary = sync.OnceValues(build)

func build() (string, error) {
	version, err := goCommand("list", "-m", "-f", "{{.Version}}", serverModule)
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	dir := filepath.Join(cache, "pg-tide", "nats-server")
	path := filepath.Join(dir, version+"-"+runtime.Version()+"-"+runtime.GOARCH)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make a place for the server: %w", err)
	}
	// Test processes start together: one builds, and the others wait for it.
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", fmt.Errorf("open the lock of the server's folder: %w", err)
	}
	defer func() { _ = lock.Close() }() // which unlocks it
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock the server's folder: %w", err)
	}
	if exists(path) {
		return path, nil
	}
	// The rename makes it whole, whoever is killed meanwhile.
	fresh := fmt.Sprintf("%s.%d", path, os.Getpid())
	if _, err := goCommand("build", "-o", fresh, serverModule); err != nil {
		return "", err
	}
	return path, os.Rename(fresh, path)
}

// goCommand runs in this package's folder, so that our go.mod counts.
func goCommand(args ...string) (string, error) {
	cmd := exec.Command("go", args...)
	if _, file, _, ok := runtime.Caller(0); ok {
		if dir := filepath.Dir(file); exists(dir) {
			cmd.Dir = dir
		}
	}
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	output, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return "", fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, exit.Stderr)
	}
	if err != nil {
		return "", fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(output)), nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
