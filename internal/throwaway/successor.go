package throwaway

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
)

// Program is a call of one of the server's own programs, such as
// pg_basebackup, as the user that the server runs as. It fails when the
// installation has no such program: fetched ones have few.
func (s *Server) Program(ctx context.Context, name string, arguments ...string) (*exec.Cmd, error) {
	path := filepath.Join(s.BinDir, name)
	if !executable(path) {
		return nil, fmt.Errorf("PostgreSQL %s in %s has no %s", s.Version, s.BinDir, name)
	}
	command := exec.CommandContext(ctx, path, arguments...)
	command.Dir = s.Dir
	command.Env = environment()
	command.SysProcAttr = childAttributes(s.as)
	return command, nil
}

// Successor starts a server of the same programs, password and options on data
// that prepare puts into a directory: a backup of s, or an upgraded copy. The
// settings are put over those of s. Nothing happens to s.
func (s *Server) Successor(ctx context.Context, settings map[string]string, prepare func(next *Server) error) (*Server, error) {
	base, err := makeBase(s.as, s.options.Dir)
	if err != nil {
		return nil, err
	}
	next := &Server{
		Major: s.Major, Version: s.Version, Password: s.Password,
		SocketDir: filepath.Join(base.dir, "s"), DataDir: filepath.Join(base.dir, "data"),
		BinDir: s.BinDir, ShareDir: s.ShareDir, Log: filepath.Join(base.dir, "postgres.log"),
		Dir: base.dir, options: s.options, as: s.as, base: base, postgres: s.postgres,
	}
	next.options.Settings = map[string]string{}
	maps.Copy(next.options.Settings, s.options.Settings)
	maps.Copy(next.options.Settings, settings)
	if err := next.succeed(ctx, prepare); err != nil {
		return nil, errors.Join(err, next.Close())
	}
	return next, nil
}

func (s *Server) succeed(ctx context.Context, prepare func(next *Server) error) error {
	if err := os.Mkdir(s.SocketDir, 0o700); err != nil {
		return err
	}
	if err := s.as.own(s.SocketDir); err != nil {
		return err
	}
	if err := prepare(s); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(s.DataDir, "pg_hba.conf"), []byte(accessRules), 0o600); err != nil {
		return err
	}
	if err := filepath.WalkDir(s.DataDir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return s.as.own(path)
	}); err != nil {
		return fmt.Errorf("hand the data to the server's user: %w", err)
	}
	var err error
	for range 3 { // somebody may take the port between our look and the server's
		if s.Port, err = freePort(ctx); err != nil {
			return err
		}
		if err = s.Start(ctx); err == nil || ctx.Err() != nil {
			return err
		}
	}
	return err
}

// InitDB makes an empty cluster in the server's data directory, as Start does
// for a server with an identity of its own.
func (s *Server) InitDB(ctx context.Context) error {
	return initdb(ctx, installation{version: s.Version, binDir: s.BinDir}, s.as, s.DataDir)
}
