package catalog

import "strings"

// storable makes text that PostgreSQL takes of text that it may not: valid
// UTF-8 without zero bytes.
func storable(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}
