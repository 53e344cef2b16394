package cli

import (
	"bufio"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// yesFlag declares --yes. It has no twin in the environment: a variable left
// over in a shell must not remove data.
func yesFlag(command *cobra.Command, yes *bool) {
	command.Flags().BoolVarP(yes, "yes", "y", false, "do not ask")
}

// confirm asks a person, or refuses when there is none and --yes was not given.
func (p *program) confirm(yes bool, doing string) error {
	if yes {
		return nil
	}
	if !p.InIsTerminal {
		return withHint(fmt.Errorf("%s needs a yes, and there is no terminal to ask on", doing), "add --yes if that is what you want")
	}
	fmt.Fprintf(p.Err, "%s: are you sure? [y/N] ", doing)
	answer, err := bufio.NewReader(p.In).ReadString('\n')
	if err != nil && answer == "" {
		return fmt.Errorf("read the answer: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return fmt.Errorf("%s: not done, the answer was not yes", doing)
}
