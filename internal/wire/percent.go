package wire

import "strings"

const hexDigits = "0123456789ABCDEF"

// escapeValue percent-encodes an attribute's value as the CloudEvents HTTP
// binding has it: blanks, quotes, percent signs and all that is not printable ASCII.
func escapeValue(value string) string {
	plain := true
	for i := range len(value) {
		if mustEscape(value[i]) {
			plain = false
			break
		}
	}
	if plain {
		return value
	}
	var b strings.Builder
	for i := range len(value) {
		c := value[i]
		if mustEscape(c) {
			b.WriteByte('%')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}

func mustEscape(c byte) bool { return c <= ' ' || c > '~' || c == '"' || c == '%' }

// unescapeValue undoes escapeValue. A percent sign that starts no escape
// stays: strangers do not always encode.
func unescapeValue(value string) string {
	if !strings.Contains(value, "%") {
		return value
	}
	b := make([]byte, 0, len(value))
	for i := 0; i < len(value); i++ {
		if value[i] == '%' && i+2 < len(value) && unhex(value[i+1]) >= 0 && unhex(value[i+2]) >= 0 {
			b = append(b, byte(unhex(value[i+1])<<4|unhex(value[i+2])))
			i += 2
			continue
		}
		b = append(b, value[i])
	}
	return string(b)
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
