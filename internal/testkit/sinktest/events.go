package sinktest

import (
	"fmt"

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
