package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// The headers that senders sign with.
const (
	githubSignature = "X-Hub-Signature-256"
	stripeSignature = "Stripe-Signature"
)

// verifier says whether a request is from whom it should be, by its raw body.
// Its errors go to whoever sent the request, and quote nothing.
type verifier func(header http.Header, body []byte, now time.Time) error

var (
	errNoMatch  = errors.New("the signature does not match")
	errBadShape = errors.New("the signature cannot be read")
)

// newVerifier returns the check of a configuration, and the header that holds
// the signature.
func newVerifier(values SourceValues) (verifier, string, error) {
	scheme := values.String("signature")
	var secrets []string
	for _, key := range []string{"secret", "previous_secret"} {
		if text := values.String(key); text != "" {
			secrets = append(secrets, text)
		}
	}
	if scheme == signedNot {
		if len(secrets) > 0 {
			return nil, "", fmt.Errorf("key %q is there and %q is %q, so that nothing would be checked; choose how requests are signed", "secret", "signature", scheme)
		}
		return func(http.Header, []byte, time.Time) error { return nil }, "", nil
	}
	if values.String("secret") == "" {
		return nil, "", fmt.Errorf("key %q is missing: %q is %q", "secret", "signature", scheme)
	}
	tolerance := time.Duration(values.Int("tolerance_seconds")) * time.Second
	switch scheme {
	case signedStandard:
		check, err := standardVerifier(secrets, tolerance)
		return check, standardwebhooks.HeaderWebhookSignature, err
	case signedStripe:
		return stripeVerifier(secrets, tolerance), stripeSignature, nil
	case signedGitHub:
		return plainVerifier(secrets, plainShape{header: githubSignature, prefix: "sha256=", decode: hex.DecodeString}), githubSignature, nil
	}
	shape := plainShape{header: values.String("signature_header"), prefix: values.String("signature_prefix"), decode: hex.DecodeString}
	if values.String("signature_encoding") == "base64" {
		shape.decode = base64.StdEncoding.DecodeString
	}
	return plainVerifier(secrets, shape), shape.header, nil
}

// mac is the HMAC-SHA-256 of the parts joined.
func mac(secret string, parts ...[]byte) []byte {
	h := hmac.New(sha256.New, []byte(secret))
	for _, part := range parts {
		h.Write(part)
	}
	return h.Sum(nil)
}

// plainShape is how a signature of the body alone is written.
type plainShape struct {
	header, prefix string
	decode         func(text string) ([]byte, error)
}

func plainVerifier(secrets []string, shape plainShape) verifier {
	return func(header http.Header, body []byte, _ time.Time) error {
		text := header.Get(shape.header)
		if text == "" {
			return fmt.Errorf("the header %s is missing", shape.header)
		}
		encoded, prefixed := strings.CutPrefix(text, shape.prefix)
		given, err := shape.decode(encoded)
		if err != nil || !prefixed {
			return errBadShape
		}
		for _, secret := range secrets {
			if hmac.Equal(given, mac(secret, body)) {
				return nil
			}
		}
		return errNoMatch
	}
}

// stripeVerifier checks t=…,v1=…,v1=…: the time and the body are signed.
func stripeVerifier(secrets []string, tolerance time.Duration) verifier {
	return func(header http.Header, body []byte, now time.Time) error {
		text := header.Get(stripeSignature)
		if text == "" {
			return fmt.Errorf("the header %s is missing", stripeSignature)
		}
		stamp := ""
		var given [][]byte
		for _, part := range strings.Split(text, ",") {
			name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
			switch name {
			case "t":
				stamp = value
			case "v1":
				if signature, err := hex.DecodeString(value); err == nil {
					given = append(given, signature)
				}
			}
		}
		if stamp == "" || len(given) == 0 {
			return errBadShape
		}
		for _, secret := range secrets {
			expected := mac(secret, []byte(stamp), []byte("."), body)
			for _, signature := range given {
				if hmac.Equal(signature, expected) {
					return checkTime(stamp, now, tolerance)
				}
			}
		}
		return errNoMatch
	}
}

// standardVerifier checks id, time and body as Standard Webhooks has it.
func standardVerifier(secrets []string, tolerance time.Duration) (verifier, error) {
	var all []*standardwebhooks.Webhook
	for _, secret := range secrets {
		one, err := standardwebhooks.NewWebhook(secret)
		if err != nil || strings.TrimPrefix(secret, "whsec_") == "" {
			return nil, errors.New(`a secret of Standard Webhooks is whsec_ and base64 behind it (keys "secret" and "previous_secret")`)
		}
		all = append(all, one)
	}
	return func(header http.Header, body []byte, now time.Time) error {
		for _, name := range []string{standardwebhooks.HeaderWebhookID, standardwebhooks.HeaderWebhookTimestamp, standardwebhooks.HeaderWebhookSignature} {
			if header.Get(name) == "" {
				return fmt.Errorf("the header %s is missing", name)
			}
		}
		for _, one := range all {
			// The time is checked below: the library has a tolerance of its own.
			if one.VerifyIgnoringTimestamp(body, header) == nil {
				return checkTime(header.Get(standardwebhooks.HeaderWebhookTimestamp), now, tolerance)
			}
		}
		return errNoMatch
	}, nil
}

// checkTime refuses what was signed too long ago, as a request that somebody
// recorded is, or in the future.
func checkTime(stamp string, now time.Time, tolerance time.Duration) error {
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return errBadShape
	}
	if off := now.Sub(time.Unix(seconds, 0)).Abs(); off > tolerance {
		return fmt.Errorf("its time is %s away from the clock here, and %s are allowed", off.Round(time.Second), tolerance)
	}
	return nil
}
