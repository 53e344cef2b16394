package transform

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pg-tide/pg-tide/internal/config"
	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
)

// placeholders are what a template may hold, besides {payload.…} and {headers.…}.
var placeholders = map[string]struct {
	value func(m *message.Message) string
	dots  bool
}{
	"outbox":       {value: func(m *message.Message) string { return m.Outbox }},
	"outbox_name":  {value: func(m *message.Message) string { return m.Outbox }},
	"stream":       {value: func(m *message.Message) string { return m.Stream }, dots: true},
	"stream_table": {value: func(m *message.Message) string { return m.Stream }, dots: true},
	"op":           {value: func(m *message.Message) string { return m.Op }},
	"event_type":   {value: func(m *message.Message) string { return m.EventType }, dots: true},
	"key":          {value: func(m *message.Message) string { return m.Key }},
	"event_id":     {value: func(m *message.Message) string { return m.EventID }},
	"outbox_id":    {value: func(m *message.Message) string { return strconv.FormatInt(m.OutboxID, 10) }},
}

// longestDestination bounds a destination, in bytes. A broker that refuses a
// longer one may drop the connection over it, and would for ever.
const longestDestination = 1024

// Template makes a destination of an event.
type Template struct {
	text  string
	safe  Sanitizer
	parts []part
}

// part is literal text, a placeholder, or a path into payload or headers.
type part struct {
	literal string
	name    string
	path    []string // the first is payload or headers
}

// CompileTemplate reads a template. safe makes filled-in values safe.
func CompileTemplate(text string, safe Sanitizer) (*Template, error) {
	t := &Template{text: text, safe: safe}
	for rest := text; rest != ""; {
		before, after, found := strings.Cut(rest, "{")
		if strings.Contains(before, "}") {
			return nil, fmt.Errorf("template %q has a } without a {", text)
		}
		if before != "" {
			t.parts = append(t.parts, part{literal: before})
		}
		if !found {
			break
		}
		name, behind, closed := strings.Cut(after, "}")
		if !closed {
			return nil, fmt.Errorf("template %q has a { without a }", text)
		}
		p, err := placeholder(name)
		if err != nil {
			return nil, fmt.Errorf("template %q: %w", text, err)
		}
		t.parts = append(t.parts, p)
		rest = behind
	}
	if len(t.parts) == 0 {
		return nil, errors.New("the template is empty")
	}
	return t, nil
}

func placeholder(name string) (part, error) {
	if _, known := placeholders[name]; known {
		return part{name: name}, nil
	}
	path := strings.Split(name, ".")
	if (path[0] == namePayload || path[0] == nameHeaders) && len(path) > 1 {
		for _, step := range path {
			if step == "" {
				return part{}, fmt.Errorf("placeholder {%s} has an empty step", name)
			}
		}
		return part{name: name, path: path}, nil
	}
	hint := fmt.Sprintf("a field of the payload is written {payload.%s}", name)
	if near := config.Nearest(name, slices.Sorted(maps.Keys(placeholders))); near != "" {
		hint = fmt.Sprintf("did you mean {%s}?", near)
	}
	return part{}, fmt.Errorf("placeholder {%s} is not known: it must be one of {outbox}, {stream}, {op}, {event_type}, {key}, {event_id}, {outbox_id}, {payload.…}, {headers.…} (%s)", name, hint)
}

// Text is the template as written.
func (t *Template) Text() string { return t.text }

// Skeleton is the template with an "x" for each placeholder: whatever is
// filled in has the place of one plain word, or of several with dots between.
func (t *Template) Skeleton() string {
	var b strings.Builder
	for i := range t.parts {
		if t.parts[i].name == "" {
			b.WriteString(t.parts[i].literal)
			continue
		}
		b.WriteByte('x')
	}
	return b.String()
}

// Expand fills in the event. It fails with the verdict reject when a path
// leads to what no destination can hold. What is not there becomes "_".
func (t *Template) Expand(m *message.Message) (string, error) {
	return t.expand(&event{message: m})
}

func (t *Template) expand(seen *event) (string, error) {
	var b strings.Builder
	for i := range t.parts {
		p := &t.parts[i]
		switch {
		case p.name == "":
			b.WriteString(p.literal)
		case p.path == nil:
			known := placeholders[p.name]
			b.WriteString(t.safe(known.value(seen.message), known.dots))
		default:
			value, err := lookUp(seen, p.path)
			if err != nil {
				return "", delivery.Reject(fmt.Errorf("template %q, placeholder {%s}, event %s: %w", t.text, p.name, seen.message.EventID, err))
			}
			b.WriteString(t.safe(value, false))
		}
	}
	if b.Len() > longestDestination {
		return "", delivery.Reject(fmt.Errorf("template %q gives event %s a destination of %d bytes; the most is %d",
			t.text, seen.message.EventID, b.Len(), longestDestination))
	}
	return b.String(), nil
}

// lookUp follows a path; a missing step gives "".
func lookUp(seen *event, path []string) (string, error) {
	inHeaders := path[0] == nameHeaders
	if err := seen.parse(needs{payload: !inHeaders, headers: inHeaders}); err != nil {
		return "", err
	}
	value := seen.payload
	if inHeaders {
		value = seen.headers
	}
	for _, step := range path[1:] {
		object, ok := value.(map[string]any)
		if !ok {
			return "", nil
		}
		value = object[step]
	}
	switch v := value.(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	case map[string]any, []any:
		return "", errors.New("it leads to an object or a list; it must lead to text, a number or a boolean")
	}
	text, err := writeJSON(value)
	return string(text), err
}
