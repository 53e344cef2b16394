// Command pg-tide runs the relay and everything around it. It holds no logic:
// package cli does the work and says which exit code it comes to.
package main

import (
	"context"
	"os"

	"github.com/pg-tide/pg-tide/internal/cli"
)

// version is set by the linker; without it the module's own version is shown.
var version string

func main() {
	os.Exit(cli.Run(context.Background(), os.Args[1:], cli.System(), version))
}
