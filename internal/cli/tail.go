package cli

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/pg-tide/pg-tide/internal/listing"
)

const (
	// tailEvery is how often tail looks again.
	tailEvery = 250 * time.Millisecond
	// tailPage bounds what is held in memory, however much there is to show.
	tailPage = 1000
)

// tailing says what tail follows, and from when.
type tailing struct {
	name   string
	from   string
	since  time.Duration
	follow bool
}

// follower finds what was committed since it was asked last, in rounds.
type follower interface {
	// next shows what is new, page by page.
	next(ctx context.Context, conn *pgx.Conn, show func(listing.Rows) error) error
}

func (p *program) tailCommand() *cobra.Command {
	var what tailing
	command := &cobra.Command{
		Use:   "tail NAME",
		Short: "Follow the events of an outbox or inbox as they are committed",
		Long: `Prints the events of an outbox, or the messages of an inbox, as they are
committed, until ctrl-C. It only reads: nothing is claimed or marked.
With --output json each is one line.`,
		Example: "  pg-tide tail order_events\n  pg-tide tail payment_triggers --since 10m --output json\n  pg-tide tail order_events --since 1h --follow=false",
		Args: func(cmd *cobra.Command, args []string) error {
			if what.from != "" && what.from != "outbox" && what.from != "inbox" {
				return usagef("--from is %q: it must be outbox or inbox", what.from)
			}
			if what.since < 0 {
				return usagef("--since is %s: it must not be negative", what.since)
			}
			return exactArgs("NAME")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			what.name = args[0]
			return p.tail(cmd.Context(), what)
		},
	}
	flags := command.Flags()
	flags.DurationVar(&what.since, "since", 0, "start with those of the last `DURATION` (default from now on)")
	flags.StringVar(&what.from, "from", "", "outbox or inbox, when both have that name")
	flags.BoolVar(&what.follow, "follow", true, "go on until ctrl-C")
	p.complete(command, "from", "outbox", "inbox")
	p.outputFlag(command)
	return command
}

// tail shows rounds until a signal, which is how it is meant to end.
func (p *program) tail(ctx context.Context, what tailing) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := p.withDatabase(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		found, err := what.find(ctx, conn)
		if err != nil {
			return err
		}
		ticker := time.NewTicker(tailEvery)
		defer ticker.Stop()
		for {
			if err := found.next(ctx, conn, p.showEvents); err != nil {
				return err
			}
			if !what.follow {
				return nil
			}
			select {
			case <-ctx.Done():
				return nil
			case <-ticker.C:
			}
		}
	})
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// find tells whether the name is an outbox's or an inbox's.
func (t tailing) find(ctx context.Context, conn *pgx.Conn) (follower, error) {
	var outbox, inbox bool
	var snapshot string
	var lastID int64
	if err := conn.QueryRow(ctx, query("tail_find"), t.name).Scan(&outbox, &inbox, &snapshot, &lastID); err != nil {
		return nil, err
	}
	switch {
	case outbox && inbox && t.from == "":
		return nil, withHint(fmt.Errorf("%q is the name of an outbox and of an inbox", t.name), "add --from outbox or --from inbox")
	case outbox && t.from != "inbox":
		return &outboxFollower{name: t.name, since: t.since, snapshot: orElseIf(t.since > 0, beginning, snapshot)}, nil
	case inbox && t.from != "outbox":
		f := &inboxFollower{name: t.name, since: t.since, seen: map[int64]time.Time{}}
		if t.since == 0 {
			f.low = lastID
		}
		return f, nil
	}
	return nil, withHint(fmt.Errorf("there is no %s %q", orElse(t.from, "outbox or inbox"), t.name), "`pg-tide status` shows which there are")
}

// beginning is a snapshot that sees nothing.
const beginning = "1:1:"

func orElseIf(condition bool, then, otherwise string) string {
	if condition {
		return then
	}
	return otherwise
}

// outboxFollower remembers a snapshot, not an id: ids are drawn before commit,
// and what commits late has a lower one than what was already shown.
type outboxFollower struct {
	name     string
	since    time.Duration
	snapshot string
}

func (f *outboxFollower) next(ctx context.Context, conn *pgx.Conn, show func(listing.Rows) error) error {
	var now string
	if err := conn.QueryRow(ctx, query("tail_snapshot")).Scan(&now); err != nil {
		return err
	}
	for after := "0"; ; {
		rows, err := listing.Read(ctx, conn, query("tail_outbox"), f.name, f.snapshot, now, after, f.since, tailPage)
		if err != nil {
			return err
		}
		if err := show(rows); err != nil {
			return err
		}
		if len(rows.Values) < tailPage {
			break
		}
		after = rows.Text(len(rows.Values)-1, "id")
	}
	f.snapshot, f.since = now, 0
	return nil
}

// settled is how long an inbox is watched for messages with lower ids than
// those shown: two pipelines that insert at the same moment may commit in
// either order. An insert is one statement, so that is long.
const settled = 5 * time.Second

// inboxFollower shows what is above low and was not shown yet.
type inboxFollower struct {
	name  string
	since time.Duration
	low   int64
	seen  map[int64]time.Time
}

func (f *inboxFollower) next(ctx context.Context, conn *pgx.Conn, show func(listing.Rows) error) error {
	after := f.low
	for {
		rows, err := listing.Read(ctx, conn, query("tail_inbox"), f.name, after, f.since, tailPage)
		if err != nil {
			return err
		}
		fresh := listing.Rows{Columns: rows.Columns}
		for i := range rows.Values {
			if _, err := fmt.Sscan(rows.Text(i, "id"), &after); err != nil {
				return fmt.Errorf("read the id of a message: %w", err)
			}
			if _, shown := f.seen[after]; !shown {
				f.seen[after] = time.Now()
				fresh.Values = append(fresh.Values, rows.Values[i])
			}
		}
		if err := show(fresh); err != nil {
			return err
		}
		if len(rows.Values) < tailPage {
			break
		}
	}
	for id, at := range f.seen {
		if time.Since(at) > settled {
			f.low = max(f.low, id)
			delete(f.seen, id)
		}
	}
	return nil
}

// showEvents prints each event on a line of its own.
func (p *program) showEvents(rows listing.Rows) error {
	for i := range rows.Values {
		if p.settings.output == outputJSON {
			object, err := rows.Object(i)
			if err != nil {
				return err
			}
			fmt.Fprintf(p.Out, "%s\n", object)
			continue
		}
		fmt.Fprintln(p.Out, p.eventLine(rows, i))
	}
	return nil
}

func (p *program) eventLine(rows listing.Rows, i int) string {
	parts := []string{rows.Text(i, "at"), rows.Text(i, "event_id"), rows.Text(i, "stream"), rows.Text(i, "op"), rows.Text(i, "event_type")}
	if key := rows.Text(i, "key"); key != "" {
		parts = append(parts, "key="+key)
	}
	line := listing.Plain(strings.Join(parts, "  "))
	if p.colours() {
		line = dim + line + "\x1b[0m"
	}
	return line + "  " + listing.Plain(rows.Text(i, "payload"))
}
