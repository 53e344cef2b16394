package cli

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// Streams are what a command talks through.
type Streams struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
	// Environ is the environment, as os.Environ returns it.
	Environ []string
	// InIsTerminal and its like say whether a person is there.
	InIsTerminal, OutIsTerminal, ErrIsTerminal bool
	// Size asks the terminal behind Out for its size; nil when there is none.
	Size func() (width, height int)
}

// System returns the streams and the environment of this process.
func System() Streams {
	streams := Streams{
		In:            os.Stdin,
		Out:           os.Stdout,
		Err:           os.Stderr,
		Environ:       os.Environ(),
		InIsTerminal:  term.IsTerminal(int(os.Stdin.Fd())),
		OutIsTerminal: term.IsTerminal(int(os.Stdout.Fd())),
		ErrIsTerminal: term.IsTerminal(int(os.Stderr.Fd())),
	}
	if streams.OutIsTerminal {
		streams.Size = terminalSize
	}
	return streams
}

// usualWidth and usualHeight stand in for a terminal that does not tell.
const (
	usualWidth  = 80
	usualHeight = 24
)

func terminalSize() (width, height int) {
	width, height, err := term.GetSize(int(os.Stdout.Fd()))
	if err != nil || width <= 0 || height <= 0 {
		return usualWidth, usualHeight
	}
	return width, height
}

// program is one call of the command.
type program struct {
	Streams
	build    build
	settings settings
	// started is set once flags, arguments and settings were accepted: an
	// error before is one of usage.
	started bool
}

// Run executes the command line and returns the exit code: 0 done, 1 failed,
// 2 wrong usage, 3 checks found problems. version is the linker's, or empty.
func Run(ctx context.Context, args []string, streams Streams, version string) int {
	p := &program{Streams: streams, build: readBuild(version)}
	root := p.root()
	root.SetArgs(args)
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.Err)
	command, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	if !p.started {
		err = &usageError{err: err}
	}
	p.complain(command, err)
	return exitCode(err)
}

// complain tells the person what went wrong and what to do.
func (p *program) complain(command *cobra.Command, err error) {
	fmt.Fprintf(p.Err, "pg-tide: %s\n", sentenceOf(err))
	if hint := hintOf(err); hint != "" {
		fmt.Fprintf(p.Err, "hint: %s\n", hint)
		return
	}
	if exitCode(err) == exitUsage && command != nil {
		fmt.Fprintf(p.Err, "hint: `%s --help` shows how it is used\n", command.CommandPath())
	}
}
