package wire

import "strings"

// Spelling is how a transport's CloudEvents binding writes attribute names.
type Spelling struct {
	// Prefix stands before each attribute: "ce-" for NATS and HTTP, "ce_" for Kafka.
	Prefix string
	// ContentType is the header that carries the content type.
	ContentType string
	// Reserved are prefixes, in lower case, of headers that belong to the
	// transport: a publisher's header of such a name does not become one.
	Reserved []string
	// Bare says that the binding also has events in structured mode without a
	// content type, known by their body alone.
	Bare bool
	// OwnKey says that the transport carries an event's key in a place of its own.
	OwnKey bool
	// ReservedNames are whole names of such headers, in lower case.
	ReservedNames []string

	names attributeNames
}

// attributeNames are the headers that attributes travel as, joined once and
// not for each event.
type attributeNames struct{ specVersion, id, source, kind, time, subject, stream, op string }

// NATS is the spelling of the CloudEvents binding for NATS. Its version 1.0.2
// knows no headers: an event in structured mode is a body and nothing else.
func NATS() Spelling {
	s := spelling("ce-", "content-type", "nats-")
	s.Bare = true
	return s
}

// HTTP is the spelling of the CloudEvents binding for HTTP. What steers a
// connection, proves who one is, or says what a proxy saw, is not for
// publishers to set.
func HTTP() Spelling {
	s := spelling("ce-", "content-type", "content-", "proxy-", "sec-", "webhook-", "access-control-", "x-forwarded-")
	s.ReservedNames = []string{"host", "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "expect",
		"accept-encoding", "authorization", "cookie", "set-cookie", "idempotency-key", "user-agent", "via", "forwarded", "x-real-ip"}
	return s
}

// Kafka is the spelling of the CloudEvents binding for Kafka.
func Kafka() Spelling {
	s := spelling("ce_", "content-type")
	s.OwnKey = true
	return s
}

func spelling(prefix, contentType string, reserved ...string) Spelling {
	return Spelling{Prefix: prefix, ContentType: contentType, Reserved: reserved, names: attributeNames{
		specVersion: prefix + attributeSpecVersion, id: prefix + attributeID, source: prefix + attributeSource, kind: prefix + attributeType,
		time: prefix + attributeTime, subject: prefix + attributeSubject, stream: prefix + attributeStream, op: prefix + attributeOp,
	}}
}

// The CloudEvents attributes in use. Those that start with tide are ours, as
// the specification allows extensions to be.
const (
	attributeSpecVersion = "specversion"
	attributeID          = "id"
	attributeSource      = "source"
	attributeType        = "type"
	attributeTime        = "time"
	attributeSubject     = "subject"
	attributeContentType = "datacontenttype"
	attributeStream      = "tidestream"
	attributeOp          = "tideop"
	attributeHeaders     = "tideheaders"
	memberBase64         = "data_base64"

	specVersion = "1.0"
	defaultOp   = "insert"
	jsonType    = "application/json"
	// structuredType is the content type of an event in structured mode.
	structuredType = "application/cloudevents+json"
	// batchType is that of several events in one message.
	batchType = "application/cloudevents-batch+json"
	// headersHeader carries those of the publisher's headers that cannot be
	// headers of the transport as they are.
	headersHeader = "tide-headers"

	// maxEventID bounds the event id, in bytes: the inbox indexes it.
	maxEventID = 512
)

// mediaType is a content type without its parameters.
func mediaType(contentType string) string {
	name, _, _ := strings.Cut(contentType, ";")
	return strings.ToLower(strings.TrimSpace(name))
}

// isJSON tells whether a content type is JSON, with or without parameters.
func isJSON(contentType string) bool {
	name := mediaType(contentType)
	return name == "" || name == jsonType || strings.HasSuffix(name, "+json")
}

// isToken tells whether name can be a header's name in every transport.
func isToken(name string) bool {
	if name == "" {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return true
}

// isVisible tells whether value can be a header's value as it is.
func isVisible(value string) bool {
	if value == "" || value[0] == ' ' || value[len(value)-1] == ' ' {
		return false
	}
	for i := range len(value) {
		if value[i] < ' ' || value[i] > '~' {
			return false
		}
	}
	return true
}
