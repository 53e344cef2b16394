// Package decoding reads an outbox from the write-ahead log: a replication
// slot with pgoutput, read by pglogrepl, whose example (pglogrepl_demo) it
// follows. Inserts are published asynchronously, as the README of nats.go's
// package jetstream shows ("Async publish"); the slot is told that a
// transaction was received once all of its messages were acknowledged.
package decoding

import (
	"context"
	_ "embed" // the statements
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pg-tide/pg-tide/bench/peers/target"
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
)

// Slot and Publication are what has to be there before the first event.
const (
	Slot        = "outbox"
	Publication = "outbox"
)

const (
	// window is how many acknowledgements may be outstanding.
	window = 2000
	// statusEvery is when the server hears from us at the latest, quiet how
	// long nothing has to come before we wait for what is outstanding.
	statusEvery = time.Second
	quiet       = 20 * time.Millisecond

	columnEventID, columnPayload = 1, 3
)

// outstanding is a message that is not acknowledged, or a commit behind such.
type outstanding struct {
	ack    jetstream.PubAckFuture // nil for a commit
	commit pglogrepl.LSN
}

type reader struct {
	conn    *pgconn.PgConn
	js      jetstream.JetStream
	subject string
	waiting []outstanding
	// unacked is how many of those are messages.
	unacked int
	done    pglogrepl.LSN // everything up to here was acknowledged
	told    time.Time
}

// Run reads and publishes until something fails.
func Run(ctx context.Context, t target.Target) error {
	config, err := pgconn.ParseConfig(t.Postgres)
	if err != nil {
		return err
	}
	config.RuntimeParams["replication"] = "database"
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // it is of no use any more
	nc, err := natsgo.Connect(t.NATS)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	// From 0 means from where the slot is.
	err = pglogrepl.StartReplication(ctx, conn, Slot, 0, pglogrepl.StartReplicationOptions{
		PluginArgs: []string{"proto_version '1'", "publication_names '" + Publication + "'"},
	})
	if err != nil {
		return err
	}
	r := &reader{conn: conn, js: js, subject: t.Subject}
	for {
		if err := r.next(ctx); err != nil {
			return err
		}
	}
}

// next takes one message of the server, or finds that none comes.
func (r *reader) next(ctx context.Context) error {
	if time.Since(r.told) > statusEvery {
		if err := r.tell(ctx); err != nil {
			return err
		}
	}
	patience := statusEvery
	if len(r.waiting) > 0 {
		patience = quiet
	}
	receiving, cancel := context.WithTimeout(ctx, patience)
	message, err := r.conn.ReceiveMessage(receiving)
	cancel()
	if pgconn.Timeout(err) && ctx.Err() == nil {
		return r.settle(ctx, 0)
	}
	if err != nil {
		return err
	}
	switch m := message.(type) {
	case *pgproto3.ErrorResponse:
		return fmt.Errorf("replication: %s", m.Message)
	case *pgproto3.CopyData:
		switch m.Data[0] {
		case pglogrepl.XLogDataByteID:
			data, err := pglogrepl.ParseXLogData(m.Data[1:])
			if err != nil {
				return err
			}
			return r.take(ctx, data.WALData)
		case pglogrepl.PrimaryKeepaliveMessageByteID:
			alive, err := pglogrepl.ParsePrimaryKeepaliveMessage(m.Data[1:])
			if err != nil || !alive.ReplyRequested {
				return err
			}
			return r.tell(ctx)
		}
	}
	return nil
}

// take publishes an insert, and notes where a transaction ends.
func (r *reader) take(ctx context.Context, data []byte) error {
	message, err := pglogrepl.Parse(data)
	if err != nil {
		return err
	}
	switch m := message.(type) {
	case *pglogrepl.InsertMessage:
		columns := m.Tuple.Columns
		ack, err := r.js.PublishMsgAsync(&natsgo.Msg{Subject: r.subject, Data: columns[columnPayload].Data,
			Header: natsgo.Header{jetstream.MsgIDHeader: {string(columns[columnEventID].Data)}}})
		if err != nil {
			return fmt.Errorf("publish: %w", err)
		}
		r.waiting = append(r.waiting, outstanding{ack: ack})
		r.unacked++
	case *pglogrepl.CommitMessage:
		r.waiting = append(r.waiting, outstanding{commit: m.TransactionEndLSN})
	}
	if r.unacked > window {
		return r.settle(ctx, window/2)
	}
	return nil
}

// settle waits until no more than a number of messages are not acknowledged.
func (r *reader) settle(ctx context.Context, most int) error {
	for len(r.waiting) > 0 && (r.unacked > most || r.waiting[0].ack == nil) {
		first := r.waiting[0]
		r.waiting = r.waiting[1:]
		if first.ack == nil {
			r.done = first.commit
			continue
		}
		select {
		case <-first.ack.Ok():
			r.unacked--
		case err := <-first.ack.Err():
			return fmt.Errorf("publish: %w", err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// tell lets the server forget what was acknowledged.
func (r *reader) tell(ctx context.Context) error {
	r.told = time.Now()
	if r.done == 0 {
		return nil // nothing was received yet
	}
	return pglogrepl.SendStandbyStatusUpdate(ctx, r.conn, pglogrepl.StandbyStatusUpdate{WALWritePosition: r.done})
}
