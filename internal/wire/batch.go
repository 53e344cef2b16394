package wire

import (
	"encoding/json"
	"strconv"

	"github.com/pg-tide/pg-tide/internal/message"
)

// split takes a batch of CloudEvents apart: each event becomes an envelope of
// its own in structured mode, so that one which cannot be read harms no other.
// A batch that is not even a list stays whole, for Decode to refuse.
func (s Spelling) split(e *message.Envelope) ([]message.Envelope, bool) {
	if !startsList(e.Body) || mediaType(s.lookUp(e, s.ContentType)) != batchType {
		return nil, false
	}
	var events []json.RawMessage
	if json.Unmarshal(e.Body, &events) != nil {
		return nil, false
	}
	all := make([]message.Envelope, len(events))
	for i, event := range events {
		all[i] = *e
		// The message id is the batch's: no two events may have it.
		all[i].EventID = ""
		all[i].Coordinates = e.Coordinates + "#" + strconv.Itoa(i)
		all[i].Headers = []message.Header{{Name: s.ContentType, Value: structuredType}}
		all[i].Body = event
	}
	return all, true
}

// startsList tells cheaply that most messages are no batch.
func startsList(body []byte) bool {
	for _, c := range body {
		switch c {
		case ' ', '\t', '\r', '\n':
		default:
			return c == '['
		}
	}
	return false
}
