package wire

import (
	"fmt"
	"strings"

	"github.com/pg-tide/pg-tide/internal/message"
)

// Codec is a wire format in a transport's spelling. Formats differ in what they
// write; all of them read whatever any of them writes, and what strangers send.
type Codec interface {
	// Encode writes m as an envelope. It fails with the verdict reject.
	Encode(m *message.Message) (message.Envelope, error)
	// Decode reads an envelope that holds one event. It fails with the verdict reject.
	Decode(e *message.Envelope) (message.Message, error)
	// Split returns an envelope for each event of one that holds several, and
	// false for one that does not.
	Split(e *message.Envelope) ([]message.Envelope, bool)
}

// The names of the formats in a configuration.
const (
	FormatNative      = "native"
	FormatCloudEvents = "cloudevents"
	formatDebezium    = "debezium"
	formatRaw         = "raw"
	// FormatBatches is FormatCloudEvents for a sink that puts several events
	// into one request.
	FormatBatches = "cloudevents_batch"
)

// Formats lists the names of all formats of a message, the default first.
func Formats() []string { return []string{FormatNative, FormatCloudEvents, formatDebezium, formatRaw} }

// WrittenFormats lists what a sink may be asked to write: those, and batches.
func WrittenFormats() []string { return append(Formats(), FormatBatches) }

// New returns the format of that name.
func New(format string, spelling Spelling) (Codec, error) {
	switch format {
	case FormatNative:
		return Binary{spelling}, nil
	case FormatCloudEvents, FormatBatches:
		return Structured{spelling}, nil
	case formatDebezium:
		return Debezium{spelling}, nil
	case formatRaw:
		return Raw{spelling}, nil
	}
	return nil, fmt.Errorf("wire format %q is not known: it must be one of %s", format, strings.Join(WrittenFormats(), ", "))
}
