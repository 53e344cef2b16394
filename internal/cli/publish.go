package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"
)

// publication is what publish sends.
type publication struct {
	outbox, stream, key, op, eventID string
	headers                          []string
}

func (p *program) publishCommand() *cobra.Command {
	var event publication
	command := &cobra.Command{
		Use:   "publish OUTBOX [PAYLOAD]",
		Short: "Publish an event, as tide.outbox_publish does",
		Long:  "Publishes one event and prints its id. The payload is JSON; without one, or with -, it is read from standard input.",
		Example: `  pg-tide publish order_events '{"event_type": "order.created", "order_id": "ORD-001"}'
  pg-tide publish order_events --stream orders --key ORD-001 --header trace=abc < order.json`,
		ValidArgsFunction: p.completeNames("outbox_list", "outbox"),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return usagef("%s needs an OUTBOX and at most one PAYLOAD; quote the payload for the shell", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			event.outbox = args[0]
			payload, err := p.payload(args[1:])
			if err != nil {
				return err
			}
			headers, err := headerObject(event.headers)
			if err != nil {
				return err
			}
			return p.withDatabase(cmd.Context(), func(ctx context.Context, conn *pgx.Conn) error {
				var id string
				if err := conn.QueryRow(ctx, query("publish"), event.outbox, nullable(event.stream), payload, headers,
					nullable(event.key), event.op, nullable(event.eventID)).Scan(&id); err != nil {
					return err
				}
				return p.done(map[string]any{"outbox": event.outbox, "event_id": id}, "%s", id)
			})
		},
	}
	flags := command.Flags()
	flags.StringVar(&event.stream, "stream", "", "`STREAM` the event is about (default the outbox's name)")
	flags.StringVar(&event.key, "key", "", "`KEY` by which order is kept")
	flags.StringVar(&event.op, "op", "insert", "insert, update, delete or a word of your own")
	flags.StringVar(&event.eventID, "event-id", "", "`UUID` of the event (default a new one)")
	flags.StringArrayVar(&event.headers, "header", nil, "header as `NAME=VALUE`; may be repeated")
	p.outputFlag(command)
	return command
}

// payload is the argument, or what standard input holds.
func (p *program) payload(args []string) (string, error) {
	var text string
	if len(args) == 1 && args[0] != "-" {
		text = args[0]
	} else {
		if len(args) == 0 && p.InIsTerminal {
			return "", withHint(usagef("there is no payload"), "give it as the second argument, or on standard input with -")
		}
		all, err := io.ReadAll(p.In)
		if err != nil {
			return "", fmt.Errorf("read the payload from standard input: %w", err)
		}
		text = string(all)
	}
	var syntax *json.SyntaxError
	var document json.RawMessage
	if err := json.Unmarshal([]byte(text), &document); errors.As(err, &syntax) {
		return "", withHint(usagef("the payload is not JSON: byte %d: %w", syntax.Offset, err), `text must be quoted within the shell's quotes: '"text"'`)
	}
	return text, nil
}

// headerObject turns NAME=VALUE pairs into a JSON object.
func headerObject(pairs []string) (string, error) {
	headers := make(map[string]string, len(pairs))
	for _, pair := range pairs {
		name, value, found := strings.Cut(pair, "=")
		if !found || name == "" {
			return "", usagef("--header is %q: it must be NAME=VALUE", pair)
		}
		if _, twice := headers[name]; twice {
			return "", usagef("--header names %q twice", name)
		}
		headers[name] = value
	}
	object, err := json.Marshal(headers)
	if err != nil {
		return "", fmt.Errorf("encode the headers: %w", err)
	}
	return string(object), nil
}
