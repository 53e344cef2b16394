package cli

import "github.com/spf13/cobra"

func (p *program) uninstallCommand() *cobra.Command {
	var yes bool
	command := &cobra.Command{
		Use:   "uninstall",
		Short: "Remove the schema tide from a database, and nothing else",
		Long: `Shows what would go and asks before anything is removed. Without a terminal it
refuses while there is data, unless --yes is given. Roles stay: they belong to
the whole server.`,
		Example: "  pg-tide uninstall --postgres-url postgres://user:pass@orders-db/orders\n  pg-tide uninstall --yes",
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return nil },
	}
	yesFlag(command, &yes)
	p.outputFlag(command)
	return command
}
