package cli

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/pg-tide/pg-tide/internal/builtin"
	"github.com/pg-tide/pg-tide/internal/config"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/pipeline"
)

// mostTried bounds how many events one trial reads.
const mostTried = 10_000

// nowhereID stands for the id of an event, or of a database, that is not there.
const nowhereID = "00000000-0000-0000-0000-000000000000"

// rehearsal says what pipeline test tries, and on what.
type rehearsal struct {
	name, outbox, configFile string
	last                     int
	eventID, payload         string
	byHand                   bool
	event                    publication
	verbose                  bool
}

func (p *program) pipelineTest() *cobra.Command {
	var r rehearsal
	command := &cobra.Command{
		Use:   "test PIPELINE",
		Short: "Show where a pipeline would send events, and send none",
		Long: `Shows what a pipeline of an outbox makes of events: whether its filter keeps
them, which routing rule matches, where they go and, with --verbose, the headers
and the body that would be sent. Nothing is sent, no broker is asked, and the
pipeline's position stays where it is.

It tries the newest events of the outbox, one of them, or one given by hand;
with the configuration that the pipeline has, or with one in a file before it is
set. With --config, --outbox and --payload no database is needed. (The file of
settings that other commands take by --config is named by PG_TIDE_CONFIG here.)

A reference such as ${env:NAME} that is not set here is shown as a word that
stands for it. The exit code is 3 when an event would fail.`,
		Example: `  pg-tide pipeline test orders-to-nats
  pg-tide pipeline test orders-to-nats --last 100 --config new.json
  pg-tide pipeline test orders-to-nats --event-id 0191f6a0-7d3c-7000-8000-000000000001 --verbose
  pg-tide pipeline test new --config new.json --outbox order_events --payload '{"total": 17}' --key ORD-1`,
		ValidArgsFunction: p.completeNames("pipeline_list", "pipeline"),
		Args: func(cmd *cobra.Command, args []string) error {
			r.byHand = cmd.Flags().Changed("payload")
			if err := r.check(cmd); err != nil {
				return err
			}
			return exactArgs("PIPELINE")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			r.name = args[0]
			return p.rehearse(cmd.Context(), &r)
		},
	}
	flags := command.Flags()
	flags.IntVar(&r.last, "last", 20, "try the newest `N` events")
	flags.StringVar(&r.eventID, "event-id", "", "try the event with this `UUID`")
	flags.StringVar(&r.payload, "payload", "", "try an event with this payload, `JSON`")
	flags.StringVar(&r.event.stream, "stream", "", "`STREAM` of the event of --payload (default the outbox's name)")
	flags.StringVar(&r.event.key, "key", "", "`KEY` of the event of --payload")
	flags.StringVar(&r.event.op, "op", "insert", "op of the event of --payload")
	flags.StringArrayVar(&r.event.headers, "header", nil, "header of the event of --payload as `NAME=VALUE`; may be repeated")
	flags.StringVar(&r.configFile, flagConfig, "", "`FILE` with a configuration, JSON, in place of the pipeline's own")
	flags.StringVar(&r.outbox, "outbox", "", "`OUTBOX` in place of the pipeline's own; needed for a pipeline that is not there yet")
	flags.BoolVarP(&r.verbose, "verbose", "v", false, "show headers and body as they would be sent")
	p.outputFlag(command)
	return command
}

func (r *rehearsal) check(cmd *cobra.Command) error {
	if r.last < 1 || r.last > mostTried {
		return usagef("--last is %d: it must be from 1 to %d", r.last, mostTried)
	}
	flags := cmd.Flags()
	for _, pair := range [][2]string{{"last", "event-id"}, {"last", "payload"}, {"event-id", "payload"}} {
		if flags.Changed(pair[0]) && flags.Changed(pair[1]) {
			return usagef("--%s and --%s are given: each says what to try, keep one", pair[0], pair[1])
		}
	}
	for _, name := range []string{"stream", "key", "op", "header"} {
		if flags.Changed(name) && !r.byHand {
			return usagef("--%s is of an event that is given by hand: add --payload", name)
		}
	}
	if r.eventID != "" && !message.IsUUID(r.eventID) {
		return usagef("--event-id is %q: it must be a UUID, in lower case", r.eventID)
	}
	return nil
}

// rehearse finds configuration and events, tries them, and shows what became of them.
func (p *program) rehearse(ctx context.Context, r *rehearsal) error {
	spec := pipeline.Spec{Name: r.name, Direction: pipeline.Forward, Endpoint: r.outbox, DatabaseID: nowhereID}
	if r.configFile != "" {
		text, err := os.ReadFile(r.configFile)
		if err != nil {
			return fmt.Errorf("read the configuration: %w", err)
		}
		spec.Config = text
	}
	var events []message.Message
	if r.byHand && r.configFile != "" && r.outbox != "" {
		return p.showTrial(r, &spec, events)
	}
	return p.withDatabase(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		if err := r.completeSpec(ctx, conn, &spec); err != nil {
			return err
		}
		if !r.byHand {
			var err error
			if events, err = r.read(ctx, conn, &spec); err != nil {
				return err
			}
		}
		return p.showTrial(r, &spec, events)
	})
}

// completeSpec takes what no flag said from the pipeline as it is set.
func (r *rehearsal) completeSpec(ctx context.Context, conn *pgx.Conn, spec *pipeline.Spec) error {
	if r.configFile == "" || r.outbox == "" {
		var direction, outbox, text string
		if err := conn.QueryRow(ctx, query("pipeline_test_config"), r.name).Scan(&direction, &outbox, &text); err != nil {
			return err
		}
		if direction != string(pipeline.Forward) {
			return withHint(fmt.Errorf("pipeline %q brings events into an inbox; only those of an outbox can be tested", r.name),
				"`pg-tide pipeline list` shows the direction of each")
		}
		if r.configFile == "" {
			spec.Config = []byte(text)
		}
		if r.outbox == "" {
			spec.Endpoint = outbox
		}
	}
	var found bool
	if err := conn.QueryRow(ctx, query("pipeline_test_outbox"), spec.Endpoint).Scan(&found, &spec.DatabaseID); err != nil {
		return err
	}
	if !found {
		return withHint(fmt.Errorf("outbox %q does not exist", spec.Endpoint), "`pg-tide status` shows which do")
	}
	return nil
}

// read reads the events to try, the oldest first.
func (r *rehearsal) read(ctx context.Context, conn *pgx.Conn, spec *pipeline.Spec) ([]message.Message, error) {
	rows, err := conn.Query(ctx, query("pipeline_test_events"), spec.Endpoint, nullable(r.eventID), r.last)
	if err != nil {
		return nil, err
	}
	events, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (message.Message, error) {
		m := message.Message{Source: "/" + spec.DatabaseID + "/" + spec.Endpoint, Outbox: spec.Endpoint}
		var payload, headers string
		err := row.Scan(&m.OutboxID, &m.EventID, &m.Stream, &m.Key, &m.Op, &m.EventType, &m.Time, &payload, &headers)
		m.Payload = []byte(payload)
		if headers != "{}" {
			m.Headers = []byte(headers)
		}
		return m, err
	})
	if err == nil && r.eventID != "" && len(events) == 0 {
		err = withHint(fmt.Errorf("event %s is not in outbox %q", r.eventID, spec.Endpoint), "it may be older than the outbox's retention")
	}
	return events, err
}

// invented is the event of --payload.
func (p *program) invented(r *rehearsal, spec *pipeline.Spec) (message.Message, error) {
	payload, err := p.payload([]string{r.payload})
	if err != nil {
		return message.Message{}, err
	}
	headers, err := headerObject(r.event.headers)
	if err != nil {
		return message.Message{}, err
	}
	m := message.Message{EventID: nowhereID, Source: "/" + spec.DatabaseID + "/" + spec.Endpoint, Outbox: spec.Endpoint,
		Stream: orElse(r.event.stream, spec.Endpoint), Key: r.event.key, Op: r.event.op, Time: time.Now().UTC(), Payload: []byte(payload)}
	if headers != "{}" {
		m.Headers = []byte(headers)
	}
	m.EventType = message.EventTypeOf(&m)
	return m, nil
}

// stranded resolves references as the relay does, and lets a word stand for
// those that only the relay can resolve: secrets are not needed to see where
// events go.
func (p *program) stranded() config.Resolver {
	standIn := func(kind, name string) string {
		word := kind + "_" + safeWord(name)
		fmt.Fprintf(p.Err, "pg-tide: ${%s:%s} is not there to be read here; %s stands for it\n", kind, name, word)
		return word
	}
	return config.Resolver{
		LookupEnv: func(name string) (string, bool) {
			if value, ok := p.lookup(name); ok {
				return value, true
			}
			return standIn("env", name), true
		},
		ReadFile: func(path string) ([]byte, error) {
			if text, err := os.ReadFile(path); err == nil {
				return text, nil
			}
			return []byte(standIn("file", path)), nil
		},
	}
}

// safeWord keeps of a name what any destination may hold.
func safeWord(name string) string {
	word := []byte(name)
	for i, c := range word {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			word[i] = '_'
		}
	}
	return string(word)
}

func (p *program) showTrial(r *rehearsal, spec *pipeline.Spec, events []message.Message) error {
	if r.byHand {
		m, err := p.invented(r, spec)
		if err != nil {
			return err
		}
		events = []message.Message{m}
	}
	builder := builtin.Builder{Technologies: builtin.Technologies(), Resolver: p.stranded(), Logger: slog.New(slog.DiscardHandler)}
	trial, err := builder.Trial(*spec)
	if err != nil {
		return err
	}
	return p.showOutcomes(r, events, trial)
}
