package cli

import "github.com/spf13/cobra"

func (p *program) extensionCommand() *cobra.Command {
	var dest string
	command := &cobra.Command{
		Use:   "extension",
		Short: "Write the files for CREATE EXTENSION pg_tide",
		Long: `Writes the extension's control file and scripts into a directory, so that
CREATE EXTENSION pg_tide works on that server. No database is touched.`,
		Example: `  pg-tide extension --dest "$(pg_config --sharedir)/extension"`,
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return nil },
	}
	command.Flags().StringVar(&dest, "dest", "", "existing `DIR` to write to: the server's SHAREDIR/extension")
	return command
}
