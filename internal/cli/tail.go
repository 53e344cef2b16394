package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"
)

// tailing says what tail follows, and from when.
type tailing struct {
	name   string
	from   string
	since  time.Duration
	follow bool
}

func (p *program) tailCommand() *cobra.Command {
	var what tailing
	command := &cobra.Command{
		Use:   "tail NAME",
		Short: "Follow the events of an outbox or inbox as they are committed",
		Long: `Prints the events of an outbox, or the messages of an inbox, as they are
committed, until ctrl-C. It only reads: nothing is claimed or marked.`,
		Example: "  pg-tide tail order_events\n  pg-tide tail payment_triggers --since 10m --output json\n  pg-tide tail order_events --since 1h --follow=false",
		Args:    exactArgs("NAME"),
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

func (p *program) tail(ctx context.Context, what tailing) error { return nil }
