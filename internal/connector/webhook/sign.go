package webhook

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// The bounds that the specification sets to a secret, in bytes.
const (
	secretPrefix     = "whsec_"
	leastSecretBytes = 24
	mostSecretBytes  = 64
)

// signer signs requests as Standard Webhooks has it, with each of its secrets,
// so that a receiver may know the old one or the new one while they change.
type signer []*standardwebhooks.Webhook

// newSigner takes secrets as text; empty ones are left out. No error quotes one.
func newSigner(secrets map[string]string, keys ...string) (signer, error) {
	var s signer
	for _, key := range keys {
		text := secrets[key]
		if text == "" {
			continue
		}
		encoded, prefixed := strings.CutPrefix(text, secretPrefix)
		raw, err := base64.StdEncoding.DecodeString(encoded)
		if !prefixed || err != nil {
			return nil, misconfigured("%s is not a secret of Standard Webhooks: %s and base64 behind it; make one with `echo whsec_$(openssl rand -base64 32)`", key, secretPrefix)
		}
		if len(raw) < leastSecretBytes || len(raw) > mostSecretBytes {
			return nil, misconfigured("%s has %d bytes; a secret of Standard Webhooks has %d to %d; make one with `echo whsec_$(openssl rand -base64 32)`",
				key, len(raw), leastSecretBytes, mostSecretBytes)
		}
		one, err := standardwebhooks.NewWebhookRaw(raw)
		if err != nil {
			return nil, misconfigured("%s cannot be used to sign", key)
		}
		s = append(s, one)
	}
	return s, nil
}

// sign sets the three headers. The id and the time go along even when there is
// no secret: the id is what a receiver recognises a repeat by.
func (s signer) sign(to http.Header, id string, at time.Time, body []byte) error {
	to.Set(standardwebhooks.HeaderWebhookID, id)
	to.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(at.Unix(), 10))
	signatures := make([]string, len(s))
	for i, one := range s {
		signature, err := one.Sign(id, at, body)
		if err != nil {
			return fmt.Errorf("sign event %s: %w", id, err)
		}
		signatures[i] = signature
	}
	if len(signatures) > 0 {
		to.Set(standardwebhooks.HeaderWebhookSignature, strings.Join(signatures, " "))
	}
	return nil
}
