package transform

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// Sanitizer makes a value safe to be filled into a destination, so that no
// event leaves the prefix that the operator wrote. dotsAllowed is true for
// values whose dots are part of the name.
type Sanitizer func(value string, dotsAllowed bool) string

// NATSToken makes a value safe within a NATS subject: wildcards, blanks,
// control characters, invalid UTF-8 and (unless allowed) dots become "_", and
// so does an empty token, at the ends and between dots. A $ in front becomes
// one too: subjects that begin with it speak to the server itself.
func NATSToken(value string, dotsAllowed bool) string {
	var b strings.Builder
	lastDot := true // an empty token at the start
	for i, r := range value {
		switch {
		case r == '$' && i == 0:
			b.WriteByte('_')
		case r == '.' && dotsAllowed:
			if lastDot {
				b.WriteByte('_')
			}
			b.WriteByte('.')
			lastDot = true
			continue
		case r <= ' ' || r == 0x7f || r == '*' || r == '>' || r == '.' || r == '\uFFFD' || isBlank(r):
			b.WriteByte('_')
		default:
			b.WriteRune(r)
		}
		lastDot = false
	}
	if lastDot {
		b.WriteByte('_')
	}
	return b.String()
}

// isBlank tells whether r is a blank or a control character beyond ASCII.
func isBlank(r rune) bool {
	switch {
	case 0x80 <= r && r <= 0xa0, r == 0x1680, 0x2000 <= r && r <= 0x200f, 0x2028 <= r && r <= 0x202f, r == 0x205f, r == 0x3000, r == 0xfeff:
		return true
	}
	return false
}

// NATSSubject says what is wrong with a subject to publish to. It is for what
// the operator wrote around the placeholders of a template.
func NATSSubject(subject string) error {
	for _, r := range subject {
		switch {
		case r == '*' || r == '>':
			return fmt.Errorf("it holds %c, a wildcard: events are published to one subject each", r)
		case unicode.IsSpace(r) || unicode.IsControl(r) || r == '\uFFFD':
			return errors.New("it holds a blank, a control character or broken text")
		}
	}
	tokens := strings.Split(subject, ".")
	for _, token := range tokens {
		if token == "" {
			return errors.New("it has nothing before, between or behind its dots")
		}
	}
	// "$" and a placeholder would let an event complete the name: "$" and
	// "JS.API.STREAM.DELETE.ORDERS". So what may stand there is written out.
	if strings.HasPrefix(tokens[0], "$") && !slices.Contains(storeSubjects(), tokens[0]) {
		return fmt.Errorf("subjects that begin with $ speak to the server itself (besides %s; placeholders are written {op}, without a $)",
			strings.Join(storeSubjects(), " and "))
	}
	return nil
}

// storeSubjects are the first tokens with a $ that events may be published
// behind: those of key-value and object stores.
func storeSubjects() []string { return []string{"$KV", "$O"} }
