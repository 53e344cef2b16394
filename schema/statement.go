package schema

import (
	"regexp"
	"strings"
)

// statement is one SQL statement of a file.
type statement struct {
	text string
	// line of the file on which it starts, from 1
	line int
}

// token finds, from the left, whatever can hide a semicolon, or a semicolon.
// A dollar quote's and a comment's end are looked for by hand.
var token = regexp.MustCompile(`(?i)--[^\n]*|/\*|'(?:[^']|'')*'|"(?:[^"]|"")*"|\$(?:[a-z_]\w*)?\$|\bbegin\s+atomic\b|\bcase\b|\bend\b|;`)

// split cuts SQL into statements, so that an error can be shown with its line.
func split(source string) []statement {
	var found []statement
	start, at, depth := 0, 0, 0
	for {
		place := token.FindStringIndex(source[at:])
		if place == nil {
			break
		}
		word := strings.ToLower(source[at+place[0] : at+place[1]])
		at += place[1]
		switch {
		case strings.HasPrefix(word, "$"):
			at = after(source, at, word)
		case word == "/*":
			at = after(source, at, "*/")
		case strings.HasPrefix(word, "begin"):
			depth++
		case word == "case" && depth > 0:
			depth++
		case word == "end" && depth > 0:
			depth--
		case word == ";" && depth == 0:
			found = appendStatement(found, source, start, at)
			start = at
		}
	}
	return appendStatement(found, source, start, len(source))
}

// after is the place behind the next occurrence of mark.
func after(source string, at int, mark string) int {
	end := strings.Index(strings.ToLower(source[at:]), mark)
	if end < 0 {
		return len(source)
	}
	return at + end + len(mark)
}

// leading matches blanks and comments in front of a statement.
var leading = regexp.MustCompile(`^(?:\s+|--[^\n]*\n?|/\*(?s:.*?)\*/)+`)

func appendStatement(found []statement, source string, start, end int) []statement {
	text := source[start:end]
	skipped := len(leading.FindString(text))
	if skipped == len(text) {
		return found
	}
	return append(found, statement{
		text: strings.TrimRight(text[skipped:], " \t\n"),
		line: 1 + strings.Count(source[:start+skipped], "\n"),
	})
}
