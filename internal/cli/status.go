package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/pg-tide/pg-tide/internal/listing"
)

// overview is all that status shows.
type overview struct {
	pipelines, outboxes, inboxes listing.Rows
}

func (p *program) statusCommand() *cobra.Command {
	var watch time.Duration
	var check bool
	command := &cobra.Command{
		Use:   "status",
		Short: "Show what moves, what waits, and why",
		Long: `Shows the pipelines, outboxes and inboxes of a database. For every pipeline that
does not move, the reason is there in words.

With --check the exit code is 3 when a pipeline that should run does not, when
dead letters wait, or when an outbox cannot be emptied or grows too large. With --output json it is one object with the arrays
pipelines, outboxes and inboxes.`,
		Example: "  pg-tide status\n  pg-tide status --watch\n  pg-tide status --watch=500ms\n  pg-tide status --check --output json",
		Args: func(_ *cobra.Command, args []string) error {
			if watch > 0 && check {
				return usagef("--watch and --check exclude each other")
			}
			return noArgs(args)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withDatabase(cmd.Context(), func(ctx context.Context, conn *pgx.Conn) error {
				if watch > 0 {
					return p.watchStatus(ctx, conn, watch)
				}
				return p.status(ctx, conn, check)
			})
		},
	}
	command.Flags().DurationVarP(&watch, "watch", "w", 0, "show it again every `INTERVAL`")
	command.Flags().Lookup("watch").NoOptDefVal = "2s"
	command.Flags().BoolVar(&check, "check", false, "exit with 3 when something does not run as it should")
	p.outputFlag(command)
	return command
}

func readOverview(ctx context.Context, conn *pgx.Conn) (overview, error) {
	var seen overview
	var err error
	if seen.pipelines, err = listing.Read(ctx, conn, query("status_pipelines")); err != nil {
		return seen, err
	}
	if seen.outboxes, err = listing.Read(ctx, conn, query("outbox_list")); err != nil {
		return seen, err
	}
	seen.inboxes, err = listing.Read(ctx, conn, query("inbox_list"))
	return seen, err
}

func (p *program) status(ctx context.Context, conn *pgx.Conn, check bool) error {
	seen, err := readOverview(ctx, conn)
	if err != nil {
		return err
	}
	if err := p.showOverview(p.Out, seen); err != nil {
		return err
	}
	if !check {
		return nil
	}
	return seen.problems()
}

func (p *program) showOverview(w io.Writer, seen overview) error {
	if p.settings.output == outputJSON {
		object, err := seen.object()
		if err != nil {
			return err
		}
		return listing.WriteJSON(w, object)
	}
	p.table("no pipeline is configured: tide.relay_set_outbox and tide.relay_set_inbox make one",
		col("pipeline"), col("direction"), col("endpoint"), col("state"), titled("lag_events", "lag"), titled("lag_seconds", "seconds"),
		titled("rate_per_second", "rate/s"), col("delivered"), titled("dead_letters", "dead"), col("reason")).Write(w, seen.pipelines)
	if len(seen.outboxes.Values) > 0 {
		fmt.Fprintln(w)
		p.outboxTable().Write(w, seen.outboxes)
	}
	if len(seen.inboxes.Values) > 0 {
		fmt.Fprintln(w)
		p.inboxTable("").Write(w, seen.inboxes)
	}
	return nil
}

func (p *program) outboxTable() listing.Table {
	return p.table("", col("outbox"), col("enabled"), col("retained"), titled("oldest_age_seconds", "oldest"), col("bytes"), col("note"))
}

func (p *program) inboxTable(empty string) listing.Table {
	return p.table(empty, col("inbox"), col("pending"), col("delayed"), titled("in_flight", "in flight"), col("processed"), col("dead"), titled("oldest_age_seconds", "oldest pending"))
}

// object is the overview as programs read it.
func (o overview) object() (map[string]json.RawMessage, error) {
	object := map[string]json.RawMessage{}
	for name, rows := range map[string]listing.Rows{"pipelines": o.pipelines, "outboxes": o.outboxes, "inboxes": o.inboxes} {
		array, err := rows.JSON()
		if err != nil {
			return nil, err
		}
		object[name] = array
	}
	return object, nil
}

// problems says what does not run as it should.
func (o overview) problems() error {
	var found []string
	for i := range o.pipelines.Values {
		name, state := o.pipelines.Text(i, "pipeline"), o.pipelines.Text(i, "state")
		switch state {
		case "running", "starting", "paused":
		default:
			found = append(found, fmt.Sprintf("pipeline %q is %s", name, state))
		}
		if dead := o.pipelines.Text(i, "dead_letters"); dead != "" && dead != "0" {
			found = append(found, fmt.Sprintf("pipeline %q has %s", name, counted(dead, "dead letter")))
		}
	}
	for i := range o.outboxes.Values {
		if note := o.outboxes.Text(i, "note"); note != "" {
			found = append(found, fmt.Sprintf("outbox %q: %s", o.outboxes.Text(i, "outbox"), note))
		}
	}
	for i := range o.inboxes.Values {
		if dead := o.inboxes.Text(i, "dead"); dead != "" && dead != "0" {
			found = append(found, fmt.Sprintf("inbox %q has %s", o.inboxes.Text(i, "inbox"), counted(dead, "dead message")))
		}
	}
	if len(found) == 0 {
		return nil
	}
	return &problemsError{text: strings.Join(found, "; ")}
}

// counted is a number with its noun.
func counted(number, noun string) string {
	if number == "1" {
		return number + " " + noun
	}
	return number + " " + noun + "s"
}

const clearScreen = "\x1b[H\x1b[2J"

// watchStatus shows the status again and again until ctrl-C, which is how it
// is meant to end. With JSON each round is one line.
func (p *program) watchStatus(ctx context.Context, conn *pgx.Conn, every time.Duration) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		seen, err := readOverview(ctx, conn)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if err := p.showRound(seen); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// showRound prints a round whole, so that a terminal never shows half of one.
func (p *program) showRound(seen overview) error {
	if p.settings.output == outputJSON {
		object, err := seen.object()
		if err != nil {
			return err
		}
		return json.NewEncoder(p.Out).Encode(object)
	}
	var page strings.Builder
	if p.OutIsTerminal {
		page.WriteString(clearScreen)
	}
	if err := p.showOverview(&page, seen); err != nil {
		return err
	}
	fmt.Fprint(p.Out, page.String())
	return nil
}
