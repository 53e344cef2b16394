package cli

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pg-tide/pg-tide/internal/config"
)

const rootHelp = `pg-tide carries events between PostgreSQL databases and a broker.

Without a subcommand it runs the relay of one database: committed events leave
its outboxes for their sinks, and events from elsewhere arrive in its inboxes.

The database is named by --postgres-url, else by --postgres-url-file, else as
psql does it: PGHOST, PGDATABASE, PGSERVICE, PGPASSFILE and their like. Flags
with an environment variable in their help may be set by it.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 checks found problems.`

const rootExamples = `  # see the whole bus move, with nothing installed
  pg-tide demo

  # put the schema into a database and run its relay
  pg-tide install --postgres-url postgres://user:pass@orders-db/orders
  pg-tide --postgres-url postgres://user:pass@orders-db/orders

  # what moves, and why something does not
  pg-tide status --postgres-url postgres://user:pass@orders-db/orders`

// root builds the tree of commands.
func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:               "pg-tide",
		Short:             "An event bus on PostgreSQL",
		Long:              rootHelp,
		Example:           rootExamples,
		Version:           p.build.Version,
		SilenceErrors:     true,
		SilenceUsage:      true,
		Args:              knownCommand,
		PersistentPreRunE: p.prepare,
		RunE:              p.runRelay,
	}
	root.SetVersionTemplate("pg-tide {{.Version}}\n")
	root.SetFlagErrorFunc(flagError)
	p.globalFlags(root.PersistentFlags())
	p.relayFlags(root.Flags())

	const relay, look, operate, other = "relay", "look", "operate", "other"
	root.AddGroup(
		&cobra.Group{ID: relay, Title: "Set up and run:"},
		&cobra.Group{ID: look, Title: "Publish and look:"},
		&cobra.Group{ID: operate, Title: "Operate:"},
		&cobra.Group{ID: other, Title: "Other:"},
	)
	addGroup(root, relay, p.demoCommand(), p.installCommand(), p.uninstallCommand(), p.extensionCommand(), p.runCommand())
	addGroup(root, look, p.statusCommand(), p.publishCommand(), p.tailCommand())
	addGroup(root, operate, p.pipelineCommand(), p.captureCommand(), p.inboxCommand(), p.workCommand(), p.deadLetterCommand(), p.rewindCommand())
	addGroup(root, other, p.benchCommand(), p.tortureCommand(), p.versionCommand(), p.brokerCommand())
	root.SetHelpCommandGroupID(other)
	root.SetCompletionCommandGroupID(other)
	return root
}

func addGroup(root *cobra.Command, group string, commands ...*cobra.Command) {
	for _, command := range commands {
		command.GroupID = group
		root.AddCommand(command)
	}
}

// family makes a command that only holds others.
func family(use, short string, commands ...*cobra.Command) *cobra.Command {
	parent := &cobra.Command{
		Use:   use,
		Short: short,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("%s needs a subcommand: %s", cmd.CommandPath(), strings.Join(names(cmd), ", "))
			}
			return knownCommand(cmd, args)
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	parent.AddCommand(commands...)
	return parent
}

// knownCommand refuses what is left when no subcommand was recognised.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if strings.Contains(args[0], "://") {
		// Not shown: it may hold a password.
		return withHint(usagef("a connection URL is not a command"), "give it with --postgres-url")
	}
	err := usagef("unknown command %q for %q", args[0], cmd.CommandPath())
	if near := config.Nearest(args[0], names(cmd)); near != "" {
		return withHint(err, "did you mean `"+cmd.CommandPath()+" "+near+"`?")
	}
	return withHint(err, "known are "+strings.Join(names(cmd), ", "))
}

func names(parent *cobra.Command) []string {
	var all []string
	for _, command := range parent.Commands() {
		if command.IsAvailableCommand() && command.Name() != "help" {
			all = append(all, command.Name())
		}
	}
	return all
}

// flagError adds the nearest flag to an error about one that does not exist.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return &usageError{err: err}
	}
	var known []string
	cmd.Flags().VisitAll(func(flag *pflag.Flag) { known = append(known, flag.Name) })
	near := config.Nearest(unknown.GetSpecifiedName(), known)
	if near == "" {
		return &usageError{err: err}
	}
	return withHint(&usageError{err: err}, "did you mean --"+near+"?")
}
