package message

// OutboxOf returns the outbox of pg_tide that a source names, or "": it is
// "/<database id>/<outbox>", the id a UUID in lower case.
func OutboxOf(source string) string {
	const end = 1 + 36 // of the id
	if len(source) <= end+1 || source[0] != '/' || source[end] != '/' {
		return ""
	}
	for i := 1; i < end; i++ {
		switch c := source[i]; i {
		case 9, 14, 19, 24:
			if c != '-' {
				return ""
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return ""
			}
		}
	}
	return source[end+1:]
}
