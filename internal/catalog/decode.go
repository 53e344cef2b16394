package catalog

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/pg-tide/pg-tide/internal/message"
)

// decoder turns the raw rows of a page into messages. Text and JSON of a whole
// page are gathered in one buffer each, so that a page costs a few
// allocations and not ten for each event, and JSON is never parsed.
type decoder struct {
	request PageRequest
	rows    []row
	text    []byte
	json    []byte
}

// row holds where a message's fields end in the buffers; they stand one behind the other.
type row struct {
	id                                    int64
	xid                                   uint64
	published                             time.Time
	eventID, stream, key, op, kind        int
	payload, headers, textStart, jsonFrom int
}

// columns of an event in the order of the statements.
const (
	columnID = iota
	columnEventID
	columnStream
	columnKey
	columnOp
	columnEventType
	columnPublishedAt
	columnPayload
	columnHeaders
	columnXID
	eventColumns
)

// microsecondsTo2000 is where PostgreSQL's binary timestamps start.
const microsecondsTo2000 = 946684800 * 1000000

func newDecoder(r PageRequest) *decoder {
	return &decoder{request: r}
}

// begin makes room for a page like the one before; an empty page needs none.
func (d *decoder) begin() {
	expect := d.request.Expect
	d.rows = make([]row, 0, min(max(expect.Events, 16), d.request.Limit))
	d.text = make([]byte, 0, expect.TextBytes+expect.TextBytes/8)
	d.json = make([]byte, 0, expect.JSONBytes+expect.JSONBytes/8)
}

func (d *decoder) size() Size {
	return Size{Events: len(d.rows), TextBytes: len(d.text), JSONBytes: len(d.json)}
}

func (d *decoder) add(values [][]byte) error {
	if len(values) < eventColumns || len(values[columnID]) != 8 || len(values[columnEventID]) != 16 ||
		len(values[columnPublishedAt]) != 8 || len(values[columnXID]) != 8 {
		return fmt.Errorf("an event of the outbox is not in the binary form expected")
	}
	if d.rows == nil {
		d.begin()
	}
	r := row{
		id:        int64(binary.BigEndian.Uint64(values[columnID])),
		xid:       binary.BigEndian.Uint64(values[columnXID]),
		published: timestamp(values[columnPublishedAt]),
		textStart: len(d.text),
		jsonFrom:  len(d.json),
	}
	d.text = appendUUID(d.text, values[columnEventID])
	r.eventID = len(d.text)
	d.text = append(d.text, values[columnStream]...)
	r.stream = len(d.text)
	d.text = append(d.text, values[columnKey]...)
	r.key = len(d.text)
	d.text = append(d.text, values[columnOp]...)
	r.op = len(d.text)
	d.text = append(d.text, values[columnEventType]...)
	r.kind = len(d.text)
	// The driver asks for jsonb as text.
	d.json = append(d.json, values[columnPayload]...)
	r.payload = len(d.json)
	d.json = append(d.json, values[columnHeaders]...)
	r.headers = len(d.json)
	d.rows = append(d.rows, r)
	return nil
}

func (d *decoder) messages() []message.Message {
	if len(d.rows) == 0 {
		return nil
	}
	text := string(d.text)
	messages := make([]message.Message, len(d.rows))
	for i := range d.rows {
		r := &d.rows[i]
		m := &messages[i]
		m.EventID = text[r.textStart:r.eventID]
		m.Source = d.request.Source
		m.Outbox = d.request.Outbox
		m.OutboxID = r.id
		m.XID = r.xid
		m.Stream = text[r.eventID:r.stream]
		m.Key = text[r.stream:r.key]
		m.Op = text[r.key:r.op]
		m.EventType = text[r.op:r.kind]
		m.Time = r.published
		// Capped, so that whoever appends to a payload does not write into the next.
		m.Payload = d.json[r.jsonFrom:r.payload:r.payload]
		if r.headers > r.payload {
			m.Headers = d.json[r.payload:r.headers:r.headers]
		}
	}
	return messages
}

func timestamp(raw []byte) time.Time {
	return time.UnixMicro(int64(binary.BigEndian.Uint64(raw)) + microsecondsTo2000).UTC()
}

func appendUUID(to, raw []byte) []byte {
	for i, part := range [...][]byte{raw[0:4], raw[4:6], raw[6:8], raw[8:10], raw[10:16]} {
		if i > 0 {
			to = append(to, '-')
		}
		to = hex.AppendEncode(to, part)
	}
	return to
}
