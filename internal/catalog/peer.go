package catalog

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
)

// Peer is another database with the schema tide, which pipelines of this one
// deliver to. Nobody owns anything there on a pipeline's behalf: what is
// delivered twice is known by its event id.
type Peer struct {
	catalog *Catalog
	inboxes map[string]InboxTarget
	// line is the one connection, once it is there.
	line atomic.Pointer[net.Conn]
}

const (
	// peerAge is longer than any visit.
	peerAge = 100 * 365 * 24 * time.Hour
	// peerFarewell is how long what is under way may take when the visit ends.
	peerFarewell = time.Second
)

// Visit connects to another database and checks that something can be
// delivered there. setting names the configuration key that says where it is.
// Its errors say what to do, those that only a person can mend as misconfigured.
// A Peer is for one caller at a time, but for Ping.
func Visit(ctx context.Context, config *pgxpool.Config, setting string) (*Peer, error) {
	p := &Peer{inboxes: map[string]InboxTarget{}}
	p.keepToOne(config)
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = connectTimeout
	}
	if config.ConnConfig.RuntimeParams["application_name"] == "" {
		config.ConnConfig.RuntimeParams["application_name"] = applicationName
	}
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	c := &Catalog{where: targetOf(config.ConnConfig), log: slog.New(slog.DiscardHandler)}
	c.where.setting = setting
	p.catalog = c
	var err error
	if c.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, c.explain("connect", err)
	}
	if err := p.check(ctx); err != nil {
		c.pool.Close()
		return nil, err
	}
	return p, nil
}

// keepToOne has the pool make one connection and no other. One that connects
// again by itself may reach another server: the standby that was promoted and
// lacks what the first had acknowledged. Nobody would ask it whether it does,
// since that is asked when a visit begins.
func (p *Peer) keepToOne(config *pgxpool.Config) {
	config.MaxConns, config.MinConns, config.MinIdleConns = 1, 0, 0
	config.MaxConnLifetime, config.MaxConnIdleTime = peerAge, peerAge
	config.BeforeConnect = func(context.Context, *pgx.ConnConfig) error {
		if p.line.Load() != nil {
			return p.lost()
		}
		return nil
	}
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		if err := meet(ctx, conn); err != nil {
			return err
		}
		line := conn.PgConn().Conn()
		p.line.Store(&line)
		return nil
	}
}

func (p *Peer) lost() error {
	return &Error{Problem: fmt.Sprintf("the connection to %s was lost", p.catalog.where)}
}

// Close ends the connection, and with it what is under way.
func (p *Peer) Close() {
	if line := p.line.Load(); line != nil {
		_ = (*line).SetDeadline(time.Now().Add(peerFarewell)) // it is closed already
	}
	p.catalog.pool.Close()
}

// Ping says whether the database answers. It may be called beside the others,
// and leaves it to them while they use the connection.
func (p *Peer) Ping(ctx context.Context) error {
	pool := p.catalog.pool
	idle := pool.AcquireAllIdle(ctx)
	if len(idle) == 0 && pool.Stat().TotalConns() == 0 {
		return p.lost()
	}
	var err error
	for _, conn := range idle {
		err = errors.Join(err, conn.Ping(ctx))
		conn.Release()
	}
	return p.catalog.explain("reach the database", err)
}

func (p *Peer) check(ctx context.Context) error {
	c := p.catalog
	var database string
	var installed, usable, recent, readOnly bool
	err := c.pool.QueryRow(ctx, peerCheckSQL).Scan(&database, &installed, &usable, &recent, &readOnly)
	if err != nil {
		return p.judge("connect", err)
	}
	c.where.database = database
	switch {
	case readOnly:
		// Not a misconfiguration: after a failover it may be over in a moment.
		return &Error{Problem: fmt.Sprintf("%s is read-only: it is a standby, or transactions are read-only by default", c.where),
			Hint: fmt.Sprintf("point %s at the primary, or add target_session_attrs=read-write with several hosts", c.where.key())}
	case !installed:
		return delivery.Misconfigured(&Error{Problem: fmt.Sprintf("the schema tide is not installed in %s", c.where),
			Hint: "run `pg-tide install`, or `create extension pg_tide`, in that database"})
	case !usable:
		return delivery.Misconfigured(&Error{Problem: fmt.Sprintf("role %q may not use the schema tide in %s", c.where.user, c.where),
			Hint: grantHint(c.where)})
	case !recent:
		return delivery.Misconfigured(&Error{Problem: fmt.Sprintf("the schema tide in %s is older than this pg-tide", c.where),
			Hint: "run `pg-tide install`, or `alter extension pg_tide update`, in that database"})
	}
	return nil
}

// FindInbox makes sure that there is an inbox that this role may insert into.
func (p *Peer) FindInbox(ctx context.Context, inbox string) error {
	_, err := p.inbox(ctx, inbox)
	return err
}

func (p *Peer) inbox(ctx context.Context, inbox string) (InboxTarget, error) {
	if to, found := p.inboxes[inbox]; found {
		return to, nil
	}
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	to := InboxTarget{Inbox: inbox, Repeats: &Repeats{}, peer: true}
	to.Repeats.Expect()
	var insertable bool
	if err := p.catalog.pool.QueryRow(ctx, peerInboxSQL, inbox).Scan(&to.InboxID, &insertable); err != nil {
		return to, p.judge("look for the inbox", err)
	}
	if !insertable {
		return to, delivery.Misconfigured(&Error{
			Problem: fmt.Sprintf("role %q may not insert into inbox %q of %s", p.catalog.where.user, inbox, p.catalog.where),
			Hint:    grantHint(p.catalog.where)})
	}
	p.inboxes[inbox] = to
	return to, nil
}

// InsertInbox makes messages durable in an inbox, in order, in one
// transaction, and returns how many were new. It fails with *delivery.Partial,
// nothing inserted, when some can never be inserted.
func (p *Peer) InsertInbox(ctx context.Context, inbox string, messages []message.Message) (int, error) {
	to, err := p.inbox(ctx, inbox)
	if err != nil {
		return 0, err
	}
	added, err := p.catalog.InsertInbox(ctx, to, messages)
	if err != nil {
		// It may have been dropped and made again: the next look finds that out.
		delete(p.inboxes, inbox)
	}
	return added, p.judge("insert into the inbox", err)
}

// FindOutbox makes sure that there is an outbox that takes events.
func (p *Peer) FindOutbox(ctx context.Context, outbox string) error {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	rows, err := p.catalog.pool.Query(ctx, peerOutboxSQL, outbox)
	if err != nil {
		return p.judge("look for the outbox", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[bool])
	switch {
	case err != nil:
		return p.judge("look for the outbox", err)
	case len(found) == 0:
		return delivery.Misconfigured(&Error{Problem: fmt.Sprintf("outbox %q does not exist in %s", outbox, p.catalog.where),
			Hint: fmt.Sprintf("create it there: select tide.outbox_create('%s');", outbox)})
	case !found[0]:
		return delivery.Misconfigured(&Error{Problem: fmt.Sprintf("outbox %q of %s is disabled", outbox, p.catalog.where),
			Hint: fmt.Sprintf("enable it there: select tide.outbox_enable('%s');", outbox)})
	}
	return nil
}

// PublishOutbox publishes messages in order, with their event ids and in one
// transaction, and returns how many the outbox did not know. It fails with
// *delivery.Partial, nothing published, when some can never be published.
func (p *Peer) PublishOutbox(ctx context.Context, outbox string, messages []message.Message) (added int, err error) {
	const doing = "publish to the outbox"
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	c := p.catalog
	err = c.often(ctx, func(conn *pgx.Conn) error {
		added, err = receiveOutbox(ctx, conn, outbox, messages)
		return err
	}, peerOutboxReceiveSQL)
	if !isDataError(err) {
		return added, p.judge(doing, err)
	}
	failed, err := c.findRefused(ctx, len(messages), func(tx pgx.Tx, from, until int) error {
		_, err := receiveOutbox(ctx, tx, outbox, messages[from:until])
		return err
	}, func(err error) error {
		return &Error{Problem: fmt.Sprintf("outbox %q cannot take the event: %s", outbox, reasonOf(err)), Err: err}
	})
	if err != nil {
		return 0, p.judge(doing, err)
	}
	if len(failed) == 0 {
		return 0, fmt.Errorf("%s: the batch was refused and each of its events was not", doing)
	}
	return 0, &delivery.Partial{Failed: failed}
}

func receiveOutbox(ctx context.Context, on rower, outbox string, messages []message.Message) (added int, err error) {
	ids, payloads, streams := make([]string, len(messages)), make([]string, len(messages)), make([]string, len(messages))
	headers, keys, ops := make([]string, len(messages)), make([]*string, len(messages)), make([]string, len(messages))
	for i := range messages {
		m := &messages[i]
		ids[i], payloads[i], streams[i], ops[i], headers[i] = m.EventID, string(m.Payload), m.Stream, m.Op, "{}"
		if len(m.Headers) > 0 {
			headers[i] = string(m.Headers)
		}
		if m.Key != "" {
			keys[i] = &m.Key
		}
	}
	var nothing any
	err = on.QueryRow(ctx, peerOutboxReceiveSQL, outbox, ids, payloads, streams, headers, keys, ops).Scan(&added, &nothing)
	return added, err
}

// judge says in words what the other database said, and which of it only a
// person can mend.
func (p *Peer) judge(doing string, err error) error {
	var partial *delivery.Partial
	if err == nil || as(err, &partial) {
		return err
	}
	explained := p.catalog.explain(doing, err)
	var untrusted *tls.CertificateVerificationError
	if as(err, &untrusted) {
		return delivery.Misconfigured(explained)
	}
	switch sqlState(err) {
	case "28P01", "28000", "3D000", "42501", "3F000", "42P01", "42883", "42703", "42704":
		return delivery.Misconfigured(explained)
	}
	return explained
}
