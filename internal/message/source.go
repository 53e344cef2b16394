package message

// OutboxOf returns the outbox of pg_tide that a source names, or "": it is
// "/<database id>/<outbox>", the id a UUID in lower case.
func OutboxOf(source string) string {
	const end = 1 + uuidLength // of the id
	if len(source) <= end+1 || source[0] != '/' || source[end] != '/' || !IsUUID(source[1:end]) {
		return ""
	}
	return source[end+1:]
}

const uuidLength = 36

// IsUUID tells whether text is a UUID in canonical form, in lower case.
func IsUUID(text string) bool {
	if len(text) != uuidLength {
		return false
	}
	for i := range len(text) {
		switch c := text[i]; i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return false
			}
		}
	}
	return true
}
