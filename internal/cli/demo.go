package cli

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/pg-tide/pg-tide/internal/app"
	"github.com/pg-tide/pg-tide/internal/demo"
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
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.runDemo(cmd.Context(), demo.Options{For: lasts, Rate: rate, Keep: keep})
		},
	}
	flags := command.Flags()
	flags.DurationVar(&lasts, "for", 30*time.Second, "`DURATION` that it takes")
	flags.IntVar(&rate, "rate", 0, "orders `N` a second (default as the demo likes)")
	flags.BoolVar(&keep, "keep", false, "stay up at the end and print how to connect, to type the tutorial along")
	return command
}

// runDemo runs the demo until its end or a signal, and then removes what it
// made; a second signal ends the process at once.
func (p *program) runDemo(ctx context.Context, options demo.Options) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	defer context.AfterFunc(ctx, stop)()
	options.Out = p.Out
	if file, ok := p.Out.(*os.File); ok && p.OutIsTerminal {
		options.Color = p.colours()
		options.Size = func() (width, height int) {
			width, height, err := term.GetSize(int(file.Fd()))
			if err != nil {
				return 80, 24
			}
			return width, height
		}
	}
	options.Relay = func(ctx context.Context, postgresURL string, logger *slog.Logger) error {
		return app.Run(ctx, app.Options{PostgresURL: postgresURL, Version: p.build.Version, Logger: logger})
	}
	err := demo.Run(ctx, options)
	var wrong *demo.OptionError
	if errors.As(err, &wrong) {
		return usagef("%w", err)
	}
	return err
}
