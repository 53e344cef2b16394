package contest

import (
	"context"
	_ "embed" // the statements
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pg-tide/pg-tide/internal/torture/check"
	"github.com/pg-tide/pg-tide/internal/torture/traffic"
)

//go:embed queries/ledger.sql
var ledgerSQL string

const (
	writers = 24
	// writerRate is how many events a second one writer aims at: what all
	// contestants can carry.
	writerRate = 40
	seed       = 1
	// quiet is how long nothing must come at the end, quietLost where events
	// are missing, quietStart where none has come since the last start: a
	// virtual machine needs many seconds on a busy machine.
	quiet      = 2 * time.Second
	quietLost  = 30 * time.Second
	quietStart = 90 * time.Second
)

// overlap has each contestant carry what the torture's writers write, whose
// transactions wait, overlap and roll back; then once more, killed in the
// middle and started again.
func (p *place) overlap(ctx context.Context, outs []outbox, lines []*Line) error {
	for i := range outs {
		for _, kills := range []bool{false, true} {
			if lines[i].failed != nil {
				continue
			}
			v, err := p.overlapOnce(ctx, &outs[i], kills)
			if err != nil {
				if err := p.failed(ctx, lines[i], err); err != nil {
					return err
				}
				continue
			}
			how := "overlap"
			if kills {
				lines[i].Killed, how = v, "overlap with kills"
			} else {
				lines[i].Overlap = v
			}
			p.say("%s: %s, %d committed, %d lost, %d doubled, %d invented, %d out of order", how, outs[i].name, v.Wanted, v.Lost, v.Doubled, v.Invented, v.Disordered)
		}
	}
	return nil
}

func (p *place) overlapOnce(ctx context.Context, o *outbox, kills bool) (v *check.Verdict, err error) {
	d, err := p.ready(ctx, o)
	if d != nil {
		defer func() { err = errors.Join(err, p.drop(ctx, d)) }()
	}
	if err != nil {
		return nil, err
	}
	if o.oneSQL != "" {
		for _, sql := range []string{o.oneSQL, shimSQL} {
			if err := d.run(ctx, sql); err != nil {
				return nil, err
			}
		}
	}
	if err := traffic.SetUpPublisher(ctx, d.conn); err != nil {
		return nil, err
	}
	stream, t, err := p.stream(ctx, d)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.js.DeleteStream(context.WithoutCancel(ctx), t.Stream)) }()
	if err := o.configure(ctx, d, t); err != nil {
		return nil, err
	}
	if err := p.carry(ctx, d, stream, o.starter(t), kills); err != nil {
		return nil, err
	}
	events, err := d.ledger(ctx)
	if err != nil {
		return nil, err
	}
	arrivals, err := read(ctx, stream, o.idOf)
	if err != nil {
		return nil, err
	}
	verdict := judge(events, arrivals)
	return &verdict, nil
}

// carry runs the writers and the contestant, until all that comes has come.
func (p *place) carry(ctx context.Context, d *database, stream jetstream.Stream, start starter, kills bool) error {
	running, err := p.start(ctx, start)
	if err != nil {
		return err
	}
	defer func() { running.end() }()
	writing, stop := context.WithTimeout(ctx, p.options.Writing)
	defer stop()
	wrote := p.write(writing, ctx, d)
	var before uint64 // what was there when it was started last
	for n := range killings {
		if !kills {
			break
		}
		if err := p.untilBusy(ctx, running, stream); err != nil {
			return err
		}
		p.say("  kill %d of %d", n+1, killings)
		running.Kill()
		info, err := stream.Info(ctx)
		if err != nil {
			return err
		}
		before = info.State.Msgs
		if running, err = p.start(ctx, start); err != nil {
			return err
		}
	}
	<-wrote
	var committed int
	if err := d.conn.QueryRow(ctx, "select count(*) from torture.ledger").Scan(&committed); err != nil {
		return err
	}
	return settled(ctx, running, stream, before, uint64(committed))
}

// killings is how often a contestant is killed.
const killings = 3

// untilBusy waits a while, and then for the moment at which events come: who
// is killed then has sent some that it has not written down.
func (p *place) untilBusy(ctx context.Context, running *program, stream jetstream.Stream) error {
	select {
	case <-time.After(p.options.Writing / (killings + 1)):
	case <-ctx.Done():
		return ctx.Err()
	}
	info, err := stream.Info(ctx)
	if err != nil {
		return err
	}
	_, err = arrived(ctx, running, stream, int(info.State.Msgs)+1)
	return err
}

// write starts the writers; the channel is closed when the last has ended.
func (p *place) write(intake, work context.Context, d *database) <-chan struct{} {
	publisher := traffic.Publisher{DSN: d.dsn, Outbox: "orders", Types: []string{"order.placed"}, Rate: writerRate, Commits: traffic.NewCommits()}
	var all sync.WaitGroup
	for n := range writers {
		all.Go(func() { _ = publisher.Write(intake, work, seed, n) }) // it returns none
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	return done
}

// settled waits until nothing has come for a while: for longer while events
// are missing, and longest while none has come since the last start.
func settled(ctx context.Context, running *program, stream jetstream.Stream, before, committed uint64) error {
	held := before
	since := time.Now()
	return until(ctx, func() (bool, error) {
		info, err := stream.Info(ctx)
		if err != nil {
			return false, err
		}
		if info.State.Msgs != held {
			held, since = info.State.Msgs, time.Now()
		}
		wait := quietLost
		switch {
		case held >= committed:
			wait = quiet
		case held == before:
			wait = quietStart
		}
		return time.Since(since) > wait, running.alive()
	})
}

// ledger is what was committed. Only events with a key have an order.
func (d *database) ledger(ctx context.Context) ([]check.Event, error) {
	rows, err := d.conn.Query(ctx, ledgerSQL)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (e check.Event, err error) {
		err = row.Scan(&e.ID, &e.Outbox, &e.Line, &e.Seq, &e.Published)
		if strings.Contains(e.Line, "/~") { // a writer's own line
			e.Line = fmt.Sprintf("alone %s", e.ID)
		}
		return e, err
	})
}
