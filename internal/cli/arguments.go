package cli

import (
	"strings"

	"github.com/spf13/cobra"
)

// exactArgs takes one argument for each name, and names what is missing or too many.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usagef("%s needs %s", cmd.CommandPath(), strings.Join(names[len(args):], " and "))
		case len(args) > len(names):
			return usagef("%s takes %s and no %q", cmd.CommandPath(), strings.Join(names, " and "), args[len(names)])
		}
		return nil
	}
}

// noArgs refuses whatever is there.
func noArgs(args []string) error {
	if len(args) > 0 {
		return usagef("%q is one argument too many", args[0])
	}
	return nil
}

// nullable is null in SQL for an empty text.
func nullable(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
