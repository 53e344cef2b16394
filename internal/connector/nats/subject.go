package nats

import (
	"slices"
	"strings"
)

// singleToken are the placeholders whose value never holds a dot; any other
// may stretch over several tokens.
var singleToken = []string{"outbox", "outbox_name", "outbox_id", "op", "key", "event_id"}

// pattern turns a subject template into the narrowest subject with wildcards
// that takes whatever the template can produce.
func pattern(template, outbox string) string {
	template = fillOutbox(template, outbox)
	var tokens []string
	for _, token := range splitTemplate(template) {
		switch {
		case !strings.Contains(token, "{"):
			tokens = append(tokens, token)
		case staysOneToken(token):
			tokens = append(tokens, "*")
		default:
			return strings.Join(append(tokens, ">"), ".")
		}
	}
	return strings.Join(tokens, ".")
}

// fillOutbox puts in the one placeholder that is known before any event.
func fillOutbox(template, outbox string) string {
	if outbox == "" {
		return template
	}
	return strings.NewReplacer("{outbox}", outbox, "{outbox_name}", outbox).Replace(template)
}

// splitTemplate splits at the dots outside of braces.
func splitTemplate(template string) []string {
	var tokens []string
	depth, start := 0, 0
	for i, r := range template {
		switch r {
		case '{':
			depth++
		case '}':
			depth--
		case '.':
			if depth == 0 {
				tokens = append(tokens, template[start:i])
				start = i + 1
			}
		}
	}
	return append(tokens, template[start:])
}

func staysOneToken(token string) bool {
	for rest := token; ; {
		open := strings.IndexByte(rest, '{')
		if open < 0 {
			return true
		}
		end := strings.IndexByte(rest[open:], '}')
		if end < 0 {
			return true
		}
		name := strings.TrimSpace(rest[open+1 : open+end])
		if !slices.Contains(singleToken, name) && !strings.HasPrefix(name, "payload.") && !strings.HasPrefix(name, "headers.") {
			return false
		}
		rest = rest[open+end+1:]
	}
}

// fixedTokens are the leading tokens of a pattern that are no wildcards.
func fixedTokens(pattern string) []string {
	tokens := strings.Split(pattern, ".")
	for i, token := range tokens {
		if token == "*" || token == ">" {
			return tokens[:i]
		}
	}
	return tokens
}

// covers reports whether every subject that matches narrow matches wide.
func covers(wide, narrow string) bool {
	w, n := strings.Split(wide, "."), strings.Split(narrow, ".")
	for i, token := range w {
		if token == ">" {
			return len(n) > i
		}
		if len(n) <= i || n[i] == ">" {
			return false
		}
		if token != "*" && token != n[i] {
			return false
		}
	}
	return len(n) == len(w)
}

// coversAll reports whether each of the narrow patterns lies in one of the wide ones.
func coversAll(wide, narrow []string) bool {
	for _, n := range narrow {
		if !slices.ContainsFunc(wide, func(w string) bool { return covers(w, n) }) {
			return false
		}
	}
	return true
}

// overlap reports whether some subject matches both patterns.
func overlap(a, b string) bool {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	for i := 0; i < len(x) && i < len(y); i++ {
		if x[i] == ">" || y[i] == ">" {
			return true
		}
		if x[i] != "*" && y[i] != "*" && x[i] != y[i] {
			return false
		}
	}
	return len(x) == len(y)
}

// checkPattern says what is wrong with a subject to subscribe to, or "".
func checkPattern(pattern string) string {
	if pattern == "" {
		return "it is empty"
	}
	if strings.ContainsAny(pattern, " \t\r\n") {
		return "it holds a blank"
	}
	tokens := strings.Split(pattern, ".")
	for i, token := range tokens {
		switch {
		case token == "":
			return "it has an empty token"
		case token == ">" && i < len(tokens)-1:
			return "> may stand at the end only"
		}
	}
	return ""
}
