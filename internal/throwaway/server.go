package throwaway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	startTimeout = 2 * time.Minute // fetching has a limit of its own
	stopTimeout  = 20 * time.Second
)

// Server is a PostgreSQL server of our own. Its methods may be called from
// several goroutines.
type Server struct {
	// Major and Version say what it is: 15, "15.18".
	Major   int
	Version string
	// Port is on 127.0.0.1; Password is that of the superuser postgres there.
	// The socket asks for none, since only the server's user can reach it.
	Port     int
	Password string
	// SocketDir, DataDir and Log are its own; BinDir and ShareDir are those of
	// its installation, ShareDir its own too with Options.PrivateTree.
	SocketDir, DataDir, BinDir, ShareDir, Log string
	// Dir is removed with the server, and with whatever was put there.
	Dir string

	options  Options
	as       account
	base     *base
	postgres string // the program

	mu      sync.Mutex
	running *process // nil while stopped
	closed  bool
}

// Start starts a server and returns when it takes connections. The context
// bounds the start alone; the server runs until Close, or until the process ends.
func Start(ctx context.Context, options Options) (*Server, error) {
	in, err := locate(ctx, options)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("starting PostgreSQL timed out after %s", startTimeout))
	defer cancel()
	as, err := serverAccount()
	if err != nil {
		return nil, err
	}
	base, err := makeBase(as, options.Dir)
	if err != nil {
		return nil, err
	}
	s := &Server{
		Major: in.major, Version: in.version, Password: randomPassword(),
		SocketDir: filepath.Join(base.dir, "s"), DataDir: filepath.Join(base.dir, "data"),
		BinDir: in.binDir, ShareDir: in.shareDir, Log: filepath.Join(base.dir, "postgres.log"),
		Dir: base.dir, options: options, as: as, base: base, postgres: filepath.Join(in.binDir, "postgres"),
	}
	if err := s.prepare(ctx, in); err != nil {
		base.remove()
		return nil, err
	}
	if err := s.firstStart(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// prepare puts everything in place that the server needs.
func (s *Server) prepare(ctx context.Context, in installation) error {
	if err := os.Mkdir(s.SocketDir, 0o700); err != nil {
		return err
	}
	if err := s.as.own(s.SocketDir); err != nil {
		return err
	}
	if s.options.PrivateTree {
		private, err := privateTree(in, filepath.Join(s.base.dir, "tree"))
		if err != nil {
			return fmt.Errorf("make a share directory of the server's own: %w", err)
		}
		s.ShareDir, s.postgres = private.shareDir, filepath.Join(private.binDir, "postgres")
	}
	return makeCluster(ctx, in, s.as, s.DataDir, s.options)
}

// firstStart finds a port, starts the server there and sets the password.
// Somebody may take the port between our look and the server's: another try.
func (s *Server) firstStart(ctx context.Context) error {
	var err error
	for range 3 {
		if s.Port, err = freePort(ctx); err != nil {
			return err
		}
		if err = s.Start(ctx); err == nil {
			return setPassword(ctx, s.SocketDSN(superuser), s.Password)
		}
		if ctx.Err() != nil {
			return err
		}
	}
	return err
}

// Start starts a stopped or killed server again, on the same data and port.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.New("start PostgreSQL: it was closed")
	}
	if s.running != nil {
		select {
		case <-s.running.done: // it crashed
		default:
			return errors.New("start PostgreSQL: it runs already")
		}
	}
	// The sessions of a server that was killed end a moment after it, and the
	// shared memory that they hold keeps a new server out until then. Recovery
	// takes as long as it takes.
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return poll(ctx, 50*time.Millisecond, func() (bool, error) {
		err := s.launch(ctx)
		if err != nil && strings.Contains(err.Error(), "pre-existing shared memory block") && ctx.Err() == nil {
			return false, nil
		}
		return err == nil, err
	})
}

// launch starts the postmaster once. The caller holds the lock.
func (s *Server) launch(ctx context.Context) error {
	log, err := os.OpenFile(s.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the server's log: %w", err)
	}
	defer func() { _ = log.Close() }() // the child has its own
	arguments := append([]string{"-D", s.DataDir, "-p", strconv.Itoa(s.Port)}, s.options.arguments(s.SocketDir)...)
	// The context bounds the start, not the server's life.
	command := exec.CommandContext(context.WithoutCancel(ctx), s.postgres, arguments...)
	command.Dir = s.DataDir
	command.Env = environment()
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = childAttributes(s.as)
	p, err := launch(command, s.Log)
	if err != nil {
		return err
	}
	s.running = p
	if err := p.ready(ctx, s.DataDir); err != nil {
		return errors.Join(err, s.halt(context.WithoutCancel(ctx), signalImmediate))
	}
	return nil
}

// Stop stops the server as an administrator would (fast): sessions are cut,
// a checkpoint is written, data stay. It may be called twice.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.halt(ctx, signalFast)
}

// Crash stops the server without a checkpoint (immediate): the next start
// recovers from its log.
func (s *Server) Crash(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.halt(ctx, signalImmediate)
}

// Kill ends the server and its sessions by SIGKILL; Start recovers.
func (s *Server) Kill(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == nil {
		return nil
	}
	if err := killTree(s.running.pid); err != nil {
		return fmt.Errorf("kill PostgreSQL: %w", err)
	}
	err := s.running.wait(ctx)
	s.running = nil
	return err
}

// Restart stops the server (fast) and starts it on the same data and port.
func (s *Server) Restart(ctx context.Context) error {
	if err := s.Stop(ctx); err != nil {
		return err
	}
	return s.Start(ctx)
}

// Close ends the server and removes all that was its own. It may be called twice.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	err := s.halt(context.Background(), signalImmediate)
	s.base.remove()
	return err
}

// halt sends the signal and waits for the end; a server that does not heed it
// in time is killed. The caller holds the lock.
func (s *Server) halt(ctx context.Context, how os.Signal) error {
	p := s.running
	if p == nil {
		return nil
	}
	s.running = nil
	if err := p.signal(how); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop PostgreSQL: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, stopTimeout, fmt.Errorf("stopping PostgreSQL timed out after %s", stopTimeout))
	defer cancel()
	if err := p.wait(ctx); err != nil {
		killErr := killTree(p.pid)
		<-p.done
		return errors.Join(err, killErr)
	}
	return nil
}

// PID is that of the postmaster, or 0 while the server is stopped.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == nil {
		return 0
	}
	return s.running.pid
}

// DSN reaches a database over TCP as the superuser.
func (s *Server) DSN(database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(superuser, s.Password),
		Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)),
		Path: "/" + database, RawQuery: "sslmode=disable",
	}
	return u.String()
}

// SocketDSN reaches a database over the socket as the superuser, or as any
// other role by SocketDSNAs. No password is asked for.
func (s *Server) SocketDSN(database string) string { return s.SocketDSNAs(superuser, database) }

// SocketDSNAs reaches a database over the socket as the role.
func (s *Server) SocketDSNAs(role, database string) string {
	query := url.Values{"host": {s.SocketDir}, "port": {strconv.Itoa(s.Port)}}
	u := url.URL{Scheme: "postgres", User: url.User(role), Path: "/" + database, RawQuery: query.Encode()}
	return u.String()
}
