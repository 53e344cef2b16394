package sinktest

import (
	"fmt"
	"strings"

	"github.com/pg-tide/pg-tide/internal/message"
)

// Envelopes makes n envelopes whose bodies are their numbers from first on.
func Envelopes(destination string, first, n int) []message.Envelope {
	envelopes := make([]message.Envelope, n)
	for i := range envelopes {
		number := first + i
		envelopes[i] = message.Envelope{
			Destination: destination,
			EventID:     fmt.Sprintf("00000000-0000-4000-8000-%012d", number),
			Key:         fmt.Sprint(number % 3),
			Body:        fmt.Appendf(nil, `{"n":%d}`, number),
		}
	}
	return envelopes
}

// OddHeaders are values that travel unchanged. Blanks at the ends and line
// breaks do not: the wire formats encode them.
func OddHeaders() []message.Header {
	return []message.Header{
		{Name: "ce-id", Value: "1"},
		{Name: "ce-type", Value: "order.created"},
		{Name: "Empty", Value: ""},
		{Name: "UPPER-and-lower", Value: "UPPER and lower"},
		{Name: "colon", Value: "a: b, c; d=\"e\""},
		{Name: "percent", Value: "%0A%20%C3%A4"},
		{Name: "unicode", Value: "Größe 漢字 🌊"},
		{Name: "long", Value: strings.Repeat("0123456789", 200)},
		{Name: "x_under.dot~", Value: "\x01"},
	}
}
