package catalog

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// heart is the connection that the relay proves to live on, and that nothing
// else uses. In the pool a heartbeat would wait behind statements that a lock
// or a slow disk keeps busy, and others would take over from a relay that is
// well. It is no pool of one either: that frees its place only when the broken
// connection is cleaned up, which takes longer than a lease if the network is cut.
type heart struct {
	config *pgx.ConnConfig
	// turn holds the connection, nil when there is none. Who takes it out may
	// use it, and puts it, or its successor, back.
	turn chan *pgx.Conn
}

func newHeart(config *pgx.ConnConfig) *heart {
	h := &heart{config: config.Copy(), turn: make(chan *pgx.Conn, 1)}
	h.config.ConnectTimeout = min(h.config.ConnectTimeout, heartbeatTimeout)
	h.turn <- nil
	return h
}

// do sends a batch, which must be safe to send twice: a connection that broke
// since the last time, with its server or a pooler, is replaced and the batch
// sent again, as long as ctx allows. often are those of its statements that are
// sent again and again.
func (h *heart) do(ctx context.Context, batch func() *pgx.Batch, often ...string) error {
	var conn *pgx.Conn
	select {
	case conn = <-h.turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { h.turn <- conn }()
	used := conn != nil
	for {
		if conn == nil {
			fresh, err := pgx.ConnectConfig(ctx, h.config)
			if err != nil {
				return err
			}
			conn = fresh
			if err := meet(ctx, conn); err != nil {
				return err
			}
		}
		err := prepare(ctx, conn, often...)
		if err == nil {
			err = conn.SendBatch(ctx, batch()).Close()
		}
		if err == nil || !conn.IsClosed() {
			return err
		}
		conn = nil // the driver cleans up behind it
		if !used || ctx.Err() != nil {
			return err
		}
		used = false
	}
}

// close ends the connection, after whoever uses it. It may be called twice.
func (h *heart) close() {
	conn := <-h.turn
	defer func() { h.turn <- nil }()
	if conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx) // whatever it says, the connection is gone
}
