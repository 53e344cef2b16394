package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/pg-tide/pg-tide/internal/builtin"
	"github.com/pg-tide/pg-tide/internal/config"
)

const introduction = `# Configuration of pipelines

<!-- Generated from the declared fields by ` + "`make generate`" + `; do not edit. -->

A pipeline's configuration is the ` + "`jsonb`" + ` argument of ` + "`tide.relay_set_outbox`" + ` and ` + "`tide.relay_set_inbox`" + `. It is strict: an unknown key is an error that names it and suggests the nearest, in SQL already.
Every text may refer to ` + "`${env:NAME}`" + ` and ` + "`${file:PATH}`" + `, which the relay resolves when it starts the pipeline (` + "`$${`" + ` stands for ` + "`${`" + ` itself; a file's last line end is left out); only expressions may not, since they appear in errors. Keys marked *secret* should hold nothing else. Configuration is shown with secrets masked.

A change is followed within a second, without a restart. A wrong configuration stops its own pipeline only; ` + "`tide.relay_status.reason`" + ` says what is wrong.

`

const templates = `## Templates

Destinations (` + "`subject_template`, `path_template`, `routing`" + `) may hold ` + "`{outbox}`, `{outbox_name}`, `{stream}`, `{stream_table}`, `{op}`, `{event_type}`, `{key}`, `{event_id}`, `{outbox_id}`, `{payload.a.b}`, `{headers.x}`" + `.
What is filled in is made safe for the transport: wildcards, blanks, control characters and empty parts become ` + "`_`" + `, as does a ` + "`$`" + ` in front, so that no event leaves the prefix that you wrote. A path that is not there gives ` + "`_`" + `; one that leads to an object or a list, and a destination of more than 1024 bytes, are that event's failure. Dots stay in ` + "`{stream}` and `{event_type}`" + `, where they are part of the name, and become ` + "`_`" + ` in all others.

## Expressions

` + "`transform.filter`, `transform.payload`" + ` and the ` + "`when`" + ` of a rule see ` + "`payload`, `headers`, `stream`, `key`, `op` and `event_type`" + `. They are JMESPath, or CEL with ` + "`\"language\": \"cel\"`" + `:

` + "```json" + `
{"transform": {"filter": "payload.event_type == 'order.created'"}}
{"transform": {"language": "cel", "filter": "payload.total > 100.0 && has(payload.customer_id)"}}
` + "```" + `

A condition (` + "`filter`, `when`" + `) holds when it gives ` + "`true`" + `, and does not when it gives ` + "`false`" + ` or ` + "`null`" + `, as a missing field does in JMESPath. Any other value is a mistake and that event's failure. Names other than the six, and functions that do not exist, are refused at once.

Both languages calculate with double precision. A number that a ` + "`payload`" + ` expression passes on as it came keeps every digit, however many. In CEL, numbers of the payload are doubles: write ` + "`payload.qty + 1.0`" + `; ` + "`int(payload.qty)`" + ` makes an integer.

A result of more than 64 MiB is that event's failure, and so may be a payload that calculates with numbers closer than double precision. A destination may begin with a dollar sign only as $KV. or $O., written out.

An expression that fails on one event is that event's failure: ` + "`on_error`" + ` decides what becomes of it, and the others flow on.

How rules choose a destination is in [routing](routing.md), what the formats look like in [wire formats](wire-formats.md). ` + "`pg-tide pipeline test`" + ` shows what a configuration makes of events without sending any.

## Pace and pauses

` + "`rate_limit`" + ` lets ` + "`max_messages_per_second`" + ` events go on average, and after a quiet time ` + "`burst_size`" + ` at once. While it holds events back, ` + "`tide.relay_status.reason`" + ` is ` + "`rate limited to 100/s`" + `. Events that a pipeline of an outbox filters or drops cost nothing of it.

` + "`circuit_breaker`" + ` tries nothing for ` + "`open_seconds`" + ` once the far end failed ` + "`failure_threshold`" + ` times in a row: it could not be reached, did not answer, or answered that it cannot now. An event that is refused is no such failure, and is ` + "`on_error`" + `'s. The reason is then ` + "`circuit open until …, because the broker failed 3 times in a row since …, last with: …`" + ` (or ` + "`the service`, `the other database`" + `, whichever it is). After that one attempt is made, and the reason says that the circuit is half open: what succeeds closes it, what fails opens it again. **An open circuit never sets an event aside**: nothing is sent, and everything waits in its order. The metric is ` + "`tide_pipeline_circuit_state`" + `, 1 for one of ` + "`closed`, `open` and `half_open`" + `.
`

// page is the reference of all keys.
func page(technologies []builtin.Technology) string {
	sinks, sources := namesOf(technologies)
	var b strings.Builder
	b.WriteString(introduction)
	b.WriteString("## Common keys\n\n### Forward: tide.relay_set_outbox\n\n")
	b.WriteString(table(builtin.CommonFields(true, sinks), ""))
	b.WriteString("\n### Reverse: tide.relay_set_inbox\n\n")
	b.WriteString(table(builtin.CommonFields(false, sources), ""))
	b.WriteString("\n" + templates)
	for i := range technologies {
		t := &technologies[i]
		if t.SinkFields != nil {
			fmt.Fprintf(&b, "\n## %s as a sink\n\nSee [its page](sinks/%s.md).\n\n%s", t.Title, t.Name, table(t.SinkFields(), ""))
		}
		if t.SourceFields != nil {
			fmt.Fprintf(&b, "\n## %s as a source\n\nSee [its page](sources/%s.md).\n\n%s", t.Title, t.Name, table(t.SourceFields(), ""))
		}
	}
	return b.String()
}

// table lists fields, nested ones under their path.
func table(fields []config.Field, prefix string) string {
	var b strings.Builder
	if prefix == "" {
		b.WriteString("| key | type | default | meaning |\n|---|---|---|---|\n")
	}
	for i := range fields {
		f := &fields[i]
		fmt.Fprintf(&b, "| `%s%s` | %s | %s | %s |\n", prefix, f.Name, f.Kind, defaultOf(f), meaning(f))
		inner := prefix + f.Name + "."
		if f.Kind == config.Array {
			inner = prefix + f.Name + "[]."
		}
		b.WriteString(rows(f.Fields, inner))
	}
	return b.String()
}

func rows(fields []config.Field, prefix string) string {
	if len(fields) == 0 {
		return ""
	}
	return table(fields, prefix)
}

func defaultOf(f *config.Field) string {
	if f.Required {
		return "**required**"
	}
	if f.Default == nil {
		return ""
	}
	text, err := json.Marshal(f.Default)
	if err != nil {
		return ""
	}
	return "`" + string(text) + "`"
}

func meaning(f *config.Field) string {
	parts := []string{strings.ReplaceAll(f.Help, "|", `\|`)}
	if len(f.Values) > 0 {
		parts = append(parts, "One of `"+strings.Join(f.Values, "`, `")+"`")
	}
	if f.Min != 0 || f.Max != 0 {
		parts = append(parts, "From "+plain(f.Min)+" to "+plain(f.Max))
	}
	if len(f.Aliases) > 0 {
		parts = append(parts, "Also accepted as `"+strings.Join(f.Aliases, "`, `")+"`")
	}
	if f.Secret {
		parts = append(parts, "*Secret*")
	}
	return strings.Join(parts, ". ")
}

// plain writes a bound without an exponent.
func plain(bound float64) string { return strconv.FormatFloat(bound, 'f', -1, 64) }
