package cli

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pg-tide/pg-tide/internal/builtin"
	"github.com/pg-tide/pg-tide/internal/listing"
	"github.com/pg-tide/pg-tide/internal/message"
)

// showOutcomes tries the events and shows them in their order.
func (p *program) showOutcomes(r *rehearsal, events []message.Message, trial *builtin.Trial) error {
	rows := listing.Rows{Columns: outcomeColumns(r.verbose)}
	failures := 0
	for i := range events {
		outcome := trial.Try(events[i])
		if outcome.Err != nil {
			failures++
		}
		row, err := outcomeRow(&events[i], &outcome, r.verbose)
		if err != nil {
			return err
		}
		rows.Values = append(rows.Values, row)
	}
	if err := p.printOutcomes(r, rows); err != nil {
		return err
	}
	if failures > 0 {
		return &problemsError{fmt.Sprintf("%d of %d events would fail", failures, len(events))}
	}
	return nil
}

func (p *program) printOutcomes(r *rehearsal, rows listing.Rows) error {
	if p.settings.output == outputJSON {
		array, err := rows.JSON()
		if err != nil {
			return err
		}
		return listing.WriteJSON(p.Out, array)
	}
	if !r.verbose {
		p.table("the outbox holds no event", col("event_id"), col("key"), col("event_type"), col("result"), col("rule"), col("destination"),
			col("error")).Write(p.Out, rows)
		return nil
	}
	for i := range rows.Values {
		fmt.Fprintln(p.Out, listing.Plain(strings.Join([]string{rows.Text(i, "event_id"), rows.Text(i, "event_type"), rows.Text(i, "result"),
			orElse(rows.Text(i, "rule"), "-"), orElse(rows.Text(i, "destination"), rows.Text(i, "error"))}, "  ")))
		var headers []message.Header
		if text := rows.Text(i, "message_headers"); text != "" {
			if err := json.Unmarshal([]byte(text), &headers); err != nil {
				return fmt.Errorf("read the headers: %w", err)
			}
		}
		for _, h := range headers {
			fmt.Fprintf(p.Out, "  %s: %s\n", listing.Plain(h.Name), listing.Plain(h.Value))
		}
		if body := rows.Text(i, "body"); body != "" {
			fmt.Fprintf(p.Out, "  %s\n", listing.Plain(body))
		}
	}
	return nil
}

func outcomeColumns(verbose bool) []listing.Column {
	columns := []listing.Column{
		{Name: "id", Type: pgtype.Int8OID}, {Name: "event_id", Type: pgtype.UUIDOID}, {Name: "stream", Type: pgtype.TextOID},
		{Name: "key", Type: pgtype.TextOID}, {Name: "op", Type: pgtype.TextOID}, {Name: "event_type", Type: pgtype.TextOID},
		{Name: "result", Type: pgtype.TextOID}, {Name: "rule", Type: pgtype.TextOID}, {Name: "destination", Type: pgtype.TextOID},
		{Name: "error", Type: pgtype.TextOID},
	}
	if verbose {
		columns = append(columns, listing.Column{Name: "message_headers", Type: pgtype.JSONBOID}, listing.Column{Name: "body", Type: pgtype.TextOID})
	}
	return columns
}

// outcomeRow is an event as a row, in the order of the columns.
func outcomeRow(m *message.Message, o *builtin.Outcome, verbose bool) ([]*string, error) {
	var id, failure string
	if m.OutboxID != 0 {
		id = strconv.FormatInt(m.OutboxID, 10)
	}
	if o.Err != nil {
		failure = o.Err.Error()
	}
	values := []string{id, m.EventID, m.Stream, m.Key, m.Op, m.EventType, string(o.Result), ruleName(o), o.Envelope.Destination, failure}
	if verbose {
		headers, err := json.Marshal(shownHeaders(o.Envelope.Headers))
		if err != nil {
			return nil, fmt.Errorf("encode the headers of event %s: %w", m.EventID, err)
		}
		values = append(values, string(headers), printable(o.Envelope.Body))
	}
	row := make([]*string, len(values))
	for i := range values {
		if values[i] != "" {
			row[i] = &values[i]
		}
	}
	return row, nil
}

// ruleName says what chose the destination, as the configuration's key.
func ruleName(o *builtin.Outcome) string {
	switch {
	case !o.Routed:
		return ""
	case o.Rule < 0:
		return "default"
	}
	return fmt.Sprintf("rules[%d]", o.Rule)
}

type shownHeader struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func shownHeaders(headers []message.Header) []shownHeader {
	shown := make([]shownHeader, len(headers))
	for i, h := range headers {
		shown[i] = shownHeader(h)
	}
	return shown
}

// printable is a body as text; formats of ours are text throughout.
func printable(body []byte) string {
	if utf8.Valid(body) {
		return string(body)
	}
	return fmt.Sprintf("(%d bytes that are not text)", len(body))
}
