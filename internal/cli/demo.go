package cli

import (
	"time"

	"github.com/spf13/cobra"
)

func (p *program) demoCommand() *cobra.Command {
	var lasts time.Duration
	var rate int
	var keep bool
	command := &cobra.Command{
		Use:   "demo",
		Short: "See the whole bus move: four services, PostgreSQL, NATS, nothing to install",
		Long: `Starts a throwaway PostgreSQL with a database for each of four services, an
embedded NATS, their relays and traffic, and shows it live. At the end it
compares what was committed with what arrived, and removes everything.`,
		Example: "  pg-tide demo\n  pg-tide demo --for 2m --rate 500\n  pg-tide demo --keep",
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return nil },
	}
	flags := command.Flags()
	flags.DurationVar(&lasts, "for", 30*time.Second, "how long it takes")
	flags.IntVar(&rate, "rate", 0, "orders `N` a second (default as the demo likes)")
	flags.BoolVar(&keep, "keep", false, "stay up at the end and print how to connect, to type the tutorial along")
	return command
}
