// Package collect reads at the end what each hop holds: ledgers, outboxes,
// the stream, inboxes and effects. It compares nothing.
package collect

import (
	"context"
	"embed"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/torture/check"
	"github.com/pg-tide/pg-tide/internal/torture/traffic"
	"github.com/pg-tide/pg-tide/internal/torture/world"
)

//go:embed queries/*.sql
var queryFiles embed.FS

// query returns the statement of that name. The files are part of the
// program, so a missing one is found by the first test that runs.
func query(name string) string {
	text, err := queryFiles.ReadFile("queries/" + name + ".sql")
	if err != nil {
		return fmt.Sprintf("-- no statement %q", name)
	}
	return string(text)
}

// Ledger reads the ledgers of all publishers.
func Ledger(ctx context.Context, w *world.World, commits *traffic.Commits) (*check.Ledger, error) {
	var all []check.Event
	for _, s := range w.Publishers() {
		err := s.Do(ctx, func(conn *pgx.Conn) error {
			rows, err := conn.Query(ctx, query("ledger"))
			if err != nil {
				return err
			}
			events, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e check.Event, err error) {
				err = row.Scan(&e.ID, &e.Outbox, &e.Line, &e.Seq, &e.Type, &e.Transaction, &e.XID, &e.How, &e.Published)
				e.Committed = commits.At(e.Transaction)
				return e, err
			})
			all = append(all, events...)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("read the ledger of %s: %w", s.Name, err)
		}
	}
	return check.NewLedger(all), nil
}

// Hops reads all hops, in the order in which events pass them.
func Hops(ctx context.Context, w *world.World) ([]check.Hop, error) {
	var hops []check.Hop
	for _, s := range w.Publishers() {
		arrivals, err := arrivals(ctx, s, query("outbox"))
		if err != nil {
			return nil, err
		}
		hops = append(hops, check.Hop{Name: "outbox " + s.Outbox, Arrivals: arrivals, Wants: of(s), Since: since(s)})
	}
	for _, s := range w.Publishers() {
		letters, err := arrivals(ctx, s, query("discarded"))
		if err != nil {
			return nil, err
		}
		// A relay that dies before it has saved sets an event aside again.
		hops = append(hops, check.Hop{Name: "set aside " + s.Name, Arrivals: letters, MayRepeat: true, Unordered: true,
			Wants: func(e check.Event) bool { return e.Outbox == s.Outbox && e.Type == world.Poison }})
	}
	stream, err := stored(ctx, w)
	if err != nil {
		return nil, err
	}
	hops = append(hops, check.Hop{Name: "stream", Arrivals: stream, Wants: healthy, MayRepeat: true})
	for _, s := range w.Consumers() {
		messages, err := arrivals(ctx, s, fmt.Sprintf(query("inbox"), relation(s)))
		if err != nil {
			return nil, err
		}
		effects, err := arrivals(ctx, s, query("effect"))
		if err != nil {
			return nil, err
		}
		hops = append(hops,
			check.Hop{Name: "inbox " + s.Inbox, Arrivals: messages, Wants: of(s), Services: []string{s.Name}, Since: since(s)},
			check.Hop{Name: "effect " + s.Name, Arrivals: effects, Wants: of(s), Services: []string{s.Name}})
	}
	return hops, nil
}

// of says which events a service's end has.
func of(s *world.Service) func(check.Event) bool {
	switch {
	case s.Outbox != "":
		return func(e check.Event) bool { return e.Outbox == s.Outbox }
	case s.Filter != "":
		return func(e check.Event) bool { return e.Type == world.Created }
	default:
		return healthy
	}
}

// healthy is what the broker takes.
func healthy(e check.Event) bool { return e.Type != world.Poison }

// since is when a service's end may have begun to forget.
func since(s *world.Service) time.Time {
	if s.Retention == 0 {
		return time.Time{}
	}
	return time.Now().Add(-s.Retention)
}

func relation(s *world.Service) string {
	return pgx.Identifier{"tide", s.Inbox + "_inbox"}.Sanitize()
}

func arrivals(ctx context.Context, s *world.Service, sql string) ([]check.Arrival, error) {
	var all []check.Arrival
	err := s.Do(ctx, func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, sql)
		if err != nil {
			return err
		}
		all, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (a check.Arrival, err error) {
			err = row.Scan(&a.ID, &a.Place, &a.At, &a.Note)
			return a, err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read what arrived at %s: %w", s.Name, err)
	}
	return all, nil
}

// stored reads all that the broker has.
func stored(ctx context.Context, w *world.World) ([]check.Arrival, error) {
	events, err := w.Bus.Stored(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]check.Arrival, len(events))
	for i, e := range events {
		all[i] = check.Arrival{ID: e.ID, Place: e.Place, At: e.At, Note: e.Where}
	}
	return all, nil
}

// Counts is how far things have got.
type Counts struct {
	// Wanted and Reached are effects by consuming service, Inbox the last id
	// of its inbox.
	Wanted, Reached, Inbox map[string]int64
	Stream                 uint64
	// Letters wait to be dealt with, Poison to be set aside.
	Letters, Poison int64
}

// Done says that every effect is there.
func (c Counts) Done() bool {
	for name, wanted := range c.Wanted {
		if c.Reached[name] < wanted {
			return false
		}
	}
	return c.Letters == 0 && c.Poison <= 0
}

// String is how far things have got, for people.
func (c Counts) String() string {
	text := fmt.Sprintf("%d in the stream", c.Stream)
	for _, name := range slices.Sorted(maps.Keys(c.Wanted)) {
		text += fmt.Sprintf(", %d of %d at %s", c.Reached[name], c.Wanted[name], name)
	}
	if c.Letters+c.Poison > 0 {
		text += fmt.Sprintf(", %d letters and %d poisoned events to deal with", c.Letters, c.Poison)
	}
	return text
}

// Count asks how far things have got.
func Count(ctx context.Context, w *world.World) (Counts, error) {
	c := Counts{Wanted: map[string]int64{}, Reached: map[string]int64{}, Inbox: map[string]int64{}}
	for _, p := range w.Publishers() {
		var all, created, poison, letters int64
		err := p.Do(ctx, func(conn *pgx.Conn) error {
			return conn.QueryRow(ctx, query("wanted")).Scan(&all, &created, &poison, &letters)
		})
		if err != nil {
			return c, fmt.Errorf("count what %s published: %w", p.Name, err)
		}
		c.Poison, c.Letters = c.Poison+poison, c.Letters+letters
		for _, s := range w.Consumers() {
			if s.Filter != "" {
				c.Wanted[s.Name] += created
			} else {
				c.Wanted[s.Name] += all
			}
		}
	}
	for _, s := range w.Consumers() {
		var inbox, effects int64
		err := s.Do(ctx, func(conn *pgx.Conn) error {
			return conn.QueryRow(ctx, fmt.Sprintf(query("reached"), relation(s))).Scan(&inbox, &effects)
		})
		if err != nil {
			return c, fmt.Errorf("count what arrived at %s: %w", s.Name, err)
		}
		c.Inbox[s.Name], c.Reached[s.Name] = inbox, effects
	}
	var err error
	c.Stream, err = w.Bus.Last(ctx)
	return c, err
}

// DeadLetters lists what relays set aside: the torture sends nothing that
// deserves it.
func DeadLetters(ctx context.Context, w *world.World) ([]string, error) {
	var all []string
	for _, s := range w.Services {
		err := s.Do(ctx, func(conn *pgx.Conn) error {
			rows, err := conn.Query(ctx, query("dead"))
			if err != nil {
				return err
			}
			letters, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
				var pipeline, id, problem string
				err := row.Scan(&pipeline, &id, &problem)
				return fmt.Sprintf("%s: event %s: %s", pipeline, id, problem), err
			})
			all = append(all, letters...)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("list the dead letters of %s: %w", s.Name, err)
		}
	}
	return all, nil
}
