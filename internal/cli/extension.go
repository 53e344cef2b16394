package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/pg-tide/pg-tide/schema"
)

func (p *program) extensionCommand() *cobra.Command {
	var dest string
	command := &cobra.Command{
		Use:   "extension",
		Short: "Write the files for CREATE EXTENSION pg_tide",
		Long: `Writes the extension's control file and scripts into a directory, so that
CREATE EXTENSION pg_tide works on that server. No database is touched.`,
		Example: `  pg-tide extension --dest "$(pg_config --sharedir)/extension"`,
		Args: func(_ *cobra.Command, args []string) error {
			if dest == "" {
				return withHint(usagef("--dest is missing: the directory to write to"),
					`for the server of pg_config it is --dest "$(pg_config --sharedir)/extension"`)
			}
			return noArgs(args)
		},
		RunE: func(*cobra.Command, []string) error { return p.writeExtension(dest) },
	}
	command.Flags().StringVar(&dest, "dest", "", "existing `DIR` to write to: the server's SHAREDIR/extension")
	p.outputFlag(command)
	return command
}

// writeExtension replaces each file whole, so that a server that reads one
// meanwhile never sees half of it.
func (p *program) writeExtension(dest string) error {
	found, err := os.Stat(dest)
	if err == nil && !found.IsDir() {
		err = fmt.Errorf("%s is not a directory", dest)
	}
	if err != nil {
		return withHint(fmt.Errorf("look at the directory of --dest: %w", err), "`pg_config --sharedir` prints where the server's is; add /extension")
	}
	files, err := schema.Files()
	if err != nil {
		return err
	}
	var written []string
	for _, file := range files {
		path := filepath.Join(dest, file.Name)
		if err := replaceFile(path, file.Content); err != nil {
			err = fmt.Errorf("write %s: %w", path, err)
			if errors.Is(err, fs.ErrPermission) {
				return withHint(err, "run it as a user who may write there, or use `pg-tide install`, which needs no files")
			}
			return err
		}
		written = append(written, path)
	}
	if p.settings.output == outputJSON {
		return p.done(map[string]any{"version": schema.Current, "files": written}, "")
	}
	for _, path := range written {
		fmt.Fprintln(p.Out, path)
	}
	return nil
}

func replaceFile(path string, content []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".pg-tide-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file.Name()) }() // gone already when all went well
	_, err = file.Write(content)
	err = errors.Join(err, file.Chmod(0o644), file.Close())
	if err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
