package webhook_test

import (
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/pg-tide/pg-tide/internal/connector/webhook"
	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
)

func TestEachStatusHasItsVerdict(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]delivery.Verdict{
		301: delivery.VerdictMisconfigured, 307: delivery.VerdictMisconfigured,
		400: delivery.VerdictReject, 413: delivery.VerdictReject, 415: delivery.VerdictReject, 422: delivery.VerdictReject,
		401: delivery.VerdictMisconfigured, 403: delivery.VerdictMisconfigured, 404: delivery.VerdictMisconfigured, 410: delivery.VerdictMisconfigured,
		408: delivery.VerdictRetry, 409: delivery.VerdictRetry, 425: delivery.VerdictRetry, 429: delivery.VerdictRetry,
		500: delivery.VerdictRetry, 501: delivery.VerdictMisconfigured, 502: delivery.VerdictRetry, 503: delivery.VerdictRetry, 504: delivery.VerdictRetry,
	} {
		s := startService(t, func(w http.ResponseWriter, _ *http.Request, _ message.Envelope) int {
			w.Header().Set("Location", "http://169.254.169.254/latest/meta-data")
			return status
		})
		sender := newSender(t, local(s.url(), nil))
		err := sender.Post(t.Context(), &events(1, "a")[0])
		if got, _ := delivery.VerdictOf(err); err == nil || got != want {
			t.Errorf("%d: verdict %v, want %v: %v", status, got, want, err)
		}
		if s.asked() != 1 {
			t.Errorf("%d: %d requests", status, s.asked())
		}
		if doubtful := delivery.IsDoubtful(err); doubtful != (want == delivery.VerdictRetry && status != 429 && status != 503) {
			t.Errorf("%d: doubtful is %t", status, doubtful)
		}
	}
}

// A path that was made for the event is the event's own fault.
func TestAPathThatIsNotThereIsTheEventsFault(t *testing.T) {
	t.Parallel()
	s := startService(t, func(http.ResponseWriter, *http.Request, message.Envelope) int { return http.StatusNotFound })
	for template, want := range map[string]delivery.Verdict{"{stream}": delivery.VerdictReject, "orders": delivery.VerdictMisconfigured} {
		e := events(1, "a")
		e[0].Destination = "orders"
		if got := failures(t, send(t, opened(t, local(s.url(), values{"path_template": template})), e)); got[0] != want {
			t.Errorf("%s: verdict %v", template, got[0])
		}
	}
}

func TestRetryAfterIsRead(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][2]time.Duration{
		"7": {7 * time.Second, 7 * time.Second}, "999999": {time.Hour, time.Hour}, "soon": {}, "-1": {}, "": {},
		time.Now().Add(time.Minute).UTC().Format(http.TimeFormat):  {30 * time.Second, time.Minute},
		time.Now().Add(-time.Minute).UTC().Format(http.TimeFormat): {},
	} {
		s := startService(t, func(w http.ResponseWriter, _ *http.Request, _ message.Envelope) int {
			w.Header().Set("Retry-After", text)
			return http.StatusServiceUnavailable
		})
		_, after := delivery.VerdictOf(newSender(t, local(s.url(), nil)).Post(t.Context(), &events(1, "a")[0]))
		if after < want[0] || after > want[1] {
			t.Errorf("%q: %s, want %s to %s", text, after, want[0], want[1])
		}
	}
}

// Both secrets sign, so that a receiver may know either.
func TestRequestsAreSignedWithBothSecrets(t *testing.T) {
	t.Parallel()
	const previous = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	var header http.Header
	s := startService(t, func(_ http.ResponseWriter, r *http.Request, _ message.Envelope) int {
		header = r.Header.Clone()
		return http.StatusOK
	})
	sender := newSender(t, local(s.url(), values{"signing_secret": secret, "previous_signing_secret": previous, "bearer_token": "t0ken"}))
	e := events(1, "a")[0]
	if err := sender.Post(t.Context(), &e); err != nil {
		t.Fatal(err)
	}
	for _, known := range []string{secret, previous} {
		verifier, err := standardwebhooks.NewWebhook(known)
		if err != nil {
			t.Fatal(err)
		}
		if err := verifier.Verify(e.Body, header); err != nil {
			t.Error(err)
		}
		if verifier.Verify(append([]byte(" "), e.Body...), header) == nil {
			t.Error("another body has the same signature")
		}
	}
	if got := header.Get("Authorization"); got != "Bearer t0ken" {
		t.Errorf("Authorization is %q", got)
	}
	if header.Get("webhook-id") != e.EventID || header.Get("Idempotency-Key") != e.EventID {
		t.Errorf("ids are %q and %q", header.Get("webhook-id"), header.Get("Idempotency-Key"))
	}
}

func TestAServiceThatIsNotThereIsNotTheEventsFault(t *testing.T) {
	t.Parallel()
	s := startService(t, nil)
	s.stop()
	err := newSender(t, local(s.url(), nil)).Post(t.Context(), &events(1, "a")[0])
	if verdict, _ := delivery.VerdictOf(err); err == nil || verdict != delivery.VerdictRetry || delivery.IsDoubtful(err) {
		t.Errorf("got %v, verdict %v, doubtful %t", err, verdict, delivery.IsDoubtful(err))
	}
}

func TestAServiceThatBreaksOffMayHaveBrokenOnTheEvent(t *testing.T) {
	t.Parallel()
	s := startService(t, func(w http.ResponseWriter, _ *http.Request, _ message.Envelope) int {
		panic(http.ErrAbortHandler)
	})
	err := newSender(t, local(s.url(), nil)).Post(t.Context(), &events(1, "a")[0])
	if !delivery.IsDoubtful(err) {
		t.Errorf("got %v", err)
	}
}

func TestOneRequestEndsWithItsTimeout(t *testing.T) {
	t.Parallel()
	s := startService(t, func(_ http.ResponseWriter, r *http.Request, _ message.Envelope) int {
		<-r.Context().Done()
		return http.StatusOK
	})
	err := newSender(t, local(s.url(), values{"timeout_seconds": 0.1})).Post(t.Context(), &events(1, "a")[0])
	if !delivery.IsDoubtful(err) || !strings.Contains(err.Error(), "100ms") {
		t.Errorf("got %v", err)
	}
}

// An answer without end is read up to a bound, and its status counts.
func TestAnAnswerWithoutEndIsCutOff(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 32<<10)); err != nil {
				return
			}
		}
	}))
	defer server.Close()
	if err := newSender(t, local(server.URL, nil)).Post(t.Context(), &events(1, "a")[0]); err != nil {
		t.Error(err)
	}
}

// certificate writes what a service's certificate is checked against.
func certificate(t *testing.T, server *httptest.Server) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTheServicesCertificateIsChecked(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	err := newSender(t, local(server.URL, nil)).Post(t.Context(), &events(1, "a")[0])
	if verdict, _ := delivery.VerdictOf(err); verdict != delivery.VerdictMisconfigured || !strings.Contains(err.Error(), "tls_ca_file") {
		t.Errorf("a stranger's certificate: %v", err)
	}
	if err := newSender(t, local(server.URL, values{"tls_ca_file": certificate(t, server)})).Post(t.Context(), &events(1, "a")[0]); err != nil {
		t.Errorf("a known certificate: %v", err)
	}
	err = newSender(t, local(server.URL, values{"tls_ca_file": certificate(t, server), "tls_server_name": "other.example"})).Post(t.Context(), &events(1, "a")[0])
	if verdict, _ := delivery.VerdictOf(err); verdict != delivery.VerdictMisconfigured {
		t.Errorf("a certificate of another name: %v", err)
	}
}

func TestAClientsCertificateIsShown(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TLS.PeerCertificates) == 0 {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	server.StartTLS()
	defer server.Close()
	// the server's own pair serves as the client's
	directory, pair := t.TempDir(), server.TLS.Certificates[0]
	key, err := keyPEM(pair)
	if err != nil {
		t.Fatal(err)
	}
	keyFile := filepath.Join(directory, "key.pem")
	if err := os.WriteFile(keyFile, key, 0o600); err != nil {
		t.Fatal(err)
	}
	ca := certificate(t, server)
	keys := values{"tls_ca_file": ca, "tls_cert_file": ca, "tls_key_file": keyFile}
	if err := newSender(t, local(server.URL, keys)).Post(t.Context(), &events(1, "a")[0]); err != nil {
		t.Error(err)
	}
}

// What cannot work is refused before anything runs, with what to do, and no
// secret in it.
func TestAWrongConfigurationSaysWhatToDo(t *testing.T) {
	t.Parallel()
	for want, keys := range map[string]values{
		"scheme":                 {"url": "ftp://x.example"},
		"https://":               {"url": "http://x.example/?token=s3cret"},
		"bearer_token":           {"url": "https://user:s3cret@x.example"},
		"write it like":          {"url": "://s3cret"},
		"allow_networks":         {"url": "https://x.example", "allow_networks": "10.0.0.0/99"},
		"whsec_":                 {"url": "https://x.example", "signing_secret": "s3cret"},
		"24 to 64":               {"url": "https://x.example", "signing_secret": "whsec_c2hvcnQ="},
		"signing_secret alone":   {"url": "https://x.example", "previous_signing_secret": secret},
		"belong together":        {"url": "https://x.example", "tls_cert_file": "c.pem"},
		`did you mean "timeout_`: {"url": "https://x.example", "timeout_second": 3},
		"must be from 0.1":       {"url": "https://x.example", "timeout_seconds": 0},
	} {
		v, err := decoded(t, webhook.SinkFields(), keys)
		if err == nil {
			_, err = webhook.NewSink(v, webhook.SinkDeps{})
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "c2hvcnQ") {
			t.Errorf("%v: %v, want %q", keys, err, want)
		}
	}
	v, err := decoded(t, webhook.SinkFields(), values{"url": "https://x.example", "tls_ca_file": "/no/such/file"})
	if err != nil {
		t.Fatal(err)
	}
	sink, err := webhook.NewSink(v, webhook.SinkDeps{})
	if err != nil {
		t.Fatal(err)
	}
	if verdict, _ := delivery.VerdictOf(sink.Open(t.Context())); verdict != delivery.VerdictMisconfigured {
		t.Errorf("a missing file: verdict %v", verdict)
	}
}

func TestNoErrorShowsTheURL(t *testing.T) {
	t.Parallel()
	s := startService(t, nil)
	s.stop()
	err := newSender(t, local(s.url()+"/t0ken?key=s3cret", nil)).Post(t.Context(), &events(1, "a")[0])
	if err == nil || strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "t0ken") {
		t.Errorf("got %v", err)
	}
	if err := (&webhook.Sender{}).Post(t.Context(), &events(1, "a")[0]); err == nil || errors.Is(err, fmt.Errorf("")) {
		t.Errorf("posted before it was opened: %v", err)
	}
}
