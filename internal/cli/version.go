package cli

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/pg-tide/pg-tide/schema"
)

// build says what this binary was built from.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	// Schema is the version of the schema tide that this binary works with.
	Schema string `json:"schema"`
}

// readBuild prefers the linker's version to the module's.
func readBuild(linked string) build {
	b := build{Version: linked, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Schema: schema.Current}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		b.Version = orElse(b.Version, "dev")
		return b
	}
	modified := ""
	for _, setting := range info.Settings {
		switch {
		case setting.Key == "vcs.revision":
			b.Revision = setting.Value
		case setting.Key == "vcs.modified" && setting.Value == "true":
			modified = "+changed"
		}
	}
	if b.Revision != "" {
		b.Revision += modified
	}
	if b.Version == "" && info.Main.Version != "(devel)" {
		b.Version = info.Main.Version
	}
	b.Version = orElse(b.Version, "dev")
	return b
}

func orElse(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}

func (p *program) versionCommand() *cobra.Command {
	command := &cobra.Command{
		Use:     "version",
		Short:   "Show the version of this binary and of the schema it works with",
		Example: "  pg-tide version\n  pg-tide version --output json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if p.settings.output == outputJSON {
				encoder := json.NewEncoder(p.Out)
				encoder.SetIndent("", "  ")
				return encoder.Encode(p.build)
			}
			fmt.Fprintf(p.Out, "pg-tide %s\nschema tide %s\n", p.build.Version, p.build.Schema)
			if p.build.Revision != "" {
				fmt.Fprintf(p.Out, "revision %s\n", p.build.Revision)
			}
			fmt.Fprintf(p.Out, "%s %s\n", p.build.Go, p.build.Platform)
			return nil
		},
	}
	p.outputFlag(command)
	return command
}
