package webhook

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/pg-tide/pg-tide/internal/message"
)

// requestError is what is wrong with a request, for its sender.
type requestError struct {
	status int
	text   string
}

func (e *requestError) Error() string { return e.text }

func refuse(status int, format string, args ...any) error {
	return &requestError{status: status, text: fmt.Sprintf(format, args...)}
}

// The content types of a CloudEvent in structured mode, and of several.
const (
	structuredEvent = "application/cloudevents+json"
	batchOfEvents   = "application/cloudevents-batch+json"
)

// droppedHeaders are about the connection or the sender's program.
var droppedHeaders = []string{"accept", "accept-charset", "accept-language", "cache-control", "date", "dnt", "origin", "pragma", "priority", "referer", "x-hub-signature"}

// envelope makes a message of a verified request. A CloudEvent stays what it
// is; a stranger's request gets the attributes that its sender's headers or
// body have in other words.
func (s *sourceSettings) envelope(r *http.Request, body []byte, now time.Time) (message.Envelope, error) {
	if err := checkBody(r.Header, body); err != nil {
		return message.Envelope{}, err
	}
	place := strings.Trim(s.path, "/")
	e := message.Envelope{Destination: place, Body: body, Time: now, Headers: s.headers(r.Header)}
	id, kind, err := s.identity(r.Header, body)
	if err != nil {
		return e, err
	}
	switch mediaType := mediaTypeOf(r.Header); {
	case mediaType == structuredEvent, mediaType == batchOfEvents:
		// All that counts is in the body, which is what was signed.
		e.Coordinates = "webhook:" + place + ":" + rand.Text()
		return e, nil
	case r.Header.Get("Ce-Specversion") != "":
		if s.scheme == signedStandard {
			// Of the two ids, that one is signed.
			set(&e, "ce-id", id)
		}
	case id != "":
		set(&e, "ce-specversion", "1.0")
		set(&e, "ce-id", id)
		set(&e, "ce-source", s.path)
	default:
		set(&e, "ce-specversion", "1.0")
		set(&e, "ce-source", s.path)
	}
	if kind != "" && e.Header("ce-type") == "" {
		set(&e, "ce-type", kind)
	}
	e.Coordinates = "webhook:" + place + ":" + rand.Text()
	if id != "" {
		e.Coordinates = "webhook:" + place + "#" + id
	}
	return e, nil
}

// set sets a header whose value is written as CloudEvents has it.
func set(e *message.Envelope, name, value string) {
	var b strings.Builder
	for i := range len(value) {
		if c := value[i]; c <= ' ' || c >= 0x7f || c == '%' || c == '"' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	for i := range e.Headers {
		if e.Headers[i].Name == name {
			e.Headers[i].Value = b.String()
			return
		}
	}
	e.Headers = append(e.Headers, message.Header{Name: name, Value: b.String()})
}

// headers are those of the request in lower case, for they have none of their
// own, without what is about the connection, and without the signature.
func (s *sourceSettings) headers(from http.Header) []message.Header {
	var all []message.Header
	for _, name := range slices.Sorted(maps.Keys(from)) {
		lower := strings.ToLower(name)
		if slices.Contains(droppedHeaders, lower) || strings.EqualFold(name, s.signatureHeader) {
			continue
		}
		for _, value := range from[name] {
			all = append(all, message.Header{Name: lower, Value: value})
		}
	}
	return all
}

// identity is the id by which the sender's request is known when it comes
// again, and the event's type; either may be empty.
func (s *sourceSettings) identity(header http.Header, body []byte) (id, kind string, err error) {
	switch s.scheme {
	case signedStandard:
		id = header.Get(standardwebhooks.HeaderWebhookID)
	case signedGitHub:
		id, kind = header.Get("X-Github-Delivery"), header.Get("X-Github-Event")
	case signedStripe:
		var event struct{ ID, Type string }
		if json.Unmarshal(body, &event) == nil {
			id, kind = event.ID, event.Type
		}
	default:
		id = header.Get(standardwebhooks.HeaderWebhookID)
	}
	if s.idHeader != "" && s.scheme != signedStandard { // whose id is signed
		if id = header.Get(s.idHeader); id == "" {
			return "", "", refuse(http.StatusBadRequest, "the header %s is missing, by which requests are known", s.idHeader)
		}
	}
	if s.typeHeader != "" {
		kind = header.Get(s.typeHeader)
	}
	return id, kind, nil
}

func mediaTypeOf(header http.Header) string {
	name, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return name
}

// checkBody tells the sender at once what no inbox would take.
func checkBody(header http.Header, body []byte) error {
	switch name := mediaTypeOf(header); {
	case header.Get("Content-Encoding") != "":
		return refuse(http.StatusUnsupportedMediaType, "the body is encoded (%.40q); send it as it is", header.Get("Content-Encoding"))
	case name != "" && name != "application/json" && !strings.HasSuffix(name, "+json"):
		return refuse(http.StatusUnsupportedMediaType, "the content type is %.60q; send JSON", name)
	case len(bytes.TrimSpace(body)) == 0:
		return refuse(http.StatusBadRequest, "the body is empty; send JSON")
	case !json.Valid(body):
		var syntax *json.SyntaxError
		var value json.RawMessage
		if errors.As(json.Unmarshal(body, &value), &syntax) {
			return refuse(http.StatusBadRequest, "the body is not JSON, at byte %d: %v", syntax.Offset, syntax)
		}
		return refuse(http.StatusBadRequest, "the body is not JSON")
	case name == batchOfEvents && bytes.TrimSpace(body)[0] != '[':
		return refuse(http.StatusBadRequest, "a batch of CloudEvents is a JSON list of them")
	}
	return nil
}
