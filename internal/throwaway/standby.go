package throwaway

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
)

// Standby starts a server that follows s by streaming replication, and can be
// promoted. It stops s for as long as the copying takes; both have the same
// password, and the standby answers queries once this returns.
func (s *Server) Standby(ctx context.Context) (*Server, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("starting a standby timed out after %s", startTimeout))
	defer cancel()
	base, err := makeBase(s.as, s.options.Dir)
	if err != nil {
		return nil, err
	}
	standby := &Server{
		Major: s.Major, Version: s.Version, Password: s.Password,
		SocketDir: filepath.Join(base.dir, "s"), DataDir: filepath.Join(base.dir, "data"),
		BinDir: s.BinDir, ShareDir: s.ShareDir, Log: filepath.Join(base.dir, "postgres.log"),
		Dir: base.dir, options: s.options, as: s.as, base: base, postgres: s.postgres,
	}
	standby.options.Settings = maps.Clone(s.options.Settings)
	if standby.options.Settings == nil {
		standby.options.Settings = map[string]string{}
	}
	standby.options.Settings["primary_conninfo"] = fmt.Sprintf("host=%s port=%d user=%s application_name=standby", s.SocketDir, s.Port, superuser)
	if err := standby.follow(ctx, s); err != nil {
		return nil, errors.Join(err, standby.Close())
	}
	return standby, nil
}

// follow copies the primary while it stands still and starts both.
func (s *Server) follow(ctx context.Context, primary *Server) error {
	if err := os.Mkdir(s.SocketDir, 0o700); err != nil {
		return err
	}
	if err := s.as.own(s.SocketDir); err != nil {
		return err
	}
	if err := primary.Stop(ctx); err != nil {
		return fmt.Errorf("stop the primary: %w", err)
	}
	err := copyTree(primary.DataDir, s.DataDir, s.as)
	if startErr := primary.Start(ctx); startErr != nil {
		return errors.Join(err, fmt.Errorf("start the primary again: %w", startErr))
	}
	if err != nil {
		return fmt.Errorf("copy the primary: %w", err)
	}
	signal := filepath.Join(s.DataDir, "standby.signal")
	if err := os.WriteFile(signal, nil, 0o600); err != nil {
		return err
	}
	if err := s.as.own(signal); err != nil {
		return err
	}
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
