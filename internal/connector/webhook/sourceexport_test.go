package webhook

import (
	"net/http"
	"time"
)

// Verifier is the check of a configuration, for its examples.
func Verifier(values SourceValues) (func(header http.Header, body []byte, now time.Time) error, error) {
	check, _, err := newVerifier(values)
	return check, err
}
