package builtin

import (
	"github.com/pg-tide/pg-tide/internal/config"
	"github.com/pg-tide/pg-tide/internal/connector/stdio"
	"github.com/pg-tide/pg-tide/internal/relay"
	"github.com/pg-tide/pg-tide/internal/wire"
)

func stdoutTechnology(output *stdio.Output) Technology {
	return Technology{
		Name: "stdout", Title: "Standard output", FarEnd: "standard output",
		SinkFields: stdio.StdoutFields,
		Safe:       anyText, Destination: anywhere, Spelling: wire.NATS, Structured: true,
		Sink: func(config.Values, Ends) (relay.Sink, error) { return stdio.NewStdout(output), nil },
	}
}

func fileTechnology() Technology {
	return Technology{
		Name: "file", Title: "A file", FarEnd: "the file",
		SinkFields: stdio.FileFields,
		Safe:       anyText, Destination: anywhere, Spelling: wire.NATS, Structured: true,
		Sink: func(values config.Values, _ Ends) (relay.Sink, error) { return stdio.NewFile(values) },
	}
}

func stdinTechnology(input *stdio.Input) Technology {
	return Technology{
		Name: "stdin", Title: "Standard input", FarEnd: "standard input",
		SourceFields: stdio.StdinFields, Spelling: wire.NATS,
		Source: func(_ config.Values, ends Ends) (relay.Source, error) {
			return stdio.NewStdin(input, ends.Spec.Name), nil
		},
	}
}

// anyText and anywhere are for sinks that go to one place: a rule's destination
// says only that the event is kept.
func anyText(value string, _ bool) string { return value }

func anywhere(string) error { return nil }
