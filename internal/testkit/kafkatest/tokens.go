package kafkatest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Who issues tokens, and for whom.
const (
	Issuer   = "https://issuer.test"
	Audience = "kafka"
)

// Tokens issues tokens for OAUTHBEARER.
type Tokens struct {
	// Keys is the path of the key set that the brokers check tokens by.
	Keys string

	key *rsa.PrivateKey
}

// NewTokens makes an issuer with a key of its own.
func NewTokens(t testing.TB) *Tokens {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatalf("make a key: %v", err)
	}
	set := map[string]any{"keys": []any{map[string]string{
		"kty": "RSA", "kid": "one", "use": "sig", "alg": "RS256",
		"n": base64.RawURLEncoding.EncodeToString(key.N.Bytes()),
		"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(key.E)).Bytes()),
	}}}
	text, err := json.Marshal(set)
	if err != nil {
		t.Fatalf("encode the key set: %v", err)
	}
	s := &Tokens{Keys: filepath.Join(t.TempDir(), "keys.json"), key: key}
	if err := os.WriteFile(s.Keys, text, 0o600); err != nil {
		t.Fatalf("write the key set: %v", err)
	}
	return s
}

// Token is one for a user; it may be valid in the past only.
func (s *Tokens) Token(t testing.TB, user string, validFor time.Duration) string {
	t.Helper()
	text, err := s.sign(user, validFor)
	if err != nil {
		t.Fatalf("sign a token: %v", err)
	}
	return text
}

func (s *Tokens) sign(user string, validFor time.Duration) (string, error) {
	now := time.Now()
	until := now.Add(validFor)
	issued := now
	if until.Before(issued) {
		issued = until.Add(-time.Hour)
	}
	part := func(v map[string]any) (string, error) {
		text, err := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(text), err
	}
	head, err := part(map[string]any{"alg": "RS256", "kid": "one", "typ": "JWT"})
	if err != nil {
		return "", err
	}
	body, err := part(map[string]any{"iss": Issuer, "aud": Audience, "sub": user, "iat": issued.Unix(), "exp": until.Unix()})
	if err != nil {
		return "", err
	}
	digest := sha256.Sum256([]byte(head + "." + body))
	signature, err := rsa.SignPKCS1v15(rand.Reader, s.key, crypto.SHA256, digest[:])
	return head + "." + body + "." + base64.RawURLEncoding.EncodeToString(signature), err
}

// Endpoint runs a token endpoint until the test ends, which gives a token for
// the client's own name to who knows the secret, and returns its URL.
func (s *Tokens) Endpoint(t testing.TB, client, secret string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, password, ok := r.BasicAuth()
		if !ok {
			name, password = r.PostFormValue("client_id"), r.PostFormValue("client_secret")
		}
		w.Header().Set("Content-Type", "application/json")
		if r.PostFormValue("grant_type") != "client_credentials" || name != client || password != secret {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"error":"invalid_client"}`)
			return
		}
		text, err := s.sign(client, time.Hour)
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		fmt.Fprintf(w, `{"access_token":%q,"token_type":"Bearer","expires_in":3600}`, text)
	}))
	t.Cleanup(server.Close)
	return server.URL
}
