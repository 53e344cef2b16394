package throwaway

import (
	"context"
	"crypto/rand"
	_ "embed"
	"fmt"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
)

//go:embed set_password.sql
var setPasswordSQL string

func randomPassword() string { return rand.Text() }

// setPassword gives the superuser its password, over the socket. The text of
// a password of ours needs no quoting.
func setPassword(ctx context.Context, socketDSN, password string) error {
	conn, err := pgconn.Connect(ctx, socketDSN)
	if err != nil {
		return fmt.Errorf("connect to the new server: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // its work is done
	if _, err := conn.Exec(ctx, fmt.Sprintf(setPasswordSQL, password)).ReadAll(); err != nil {
		return fmt.Errorf("set the new server's password: %w", err)
	}
	return nil
}

// freePort is one that nobody listened on a moment ago.
func freePort(ctx context.Context) (int, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	if err := listener.Close(); err != nil {
		return 0, fmt.Errorf("free the port: %w", err)
	}
	return port, nil
}
