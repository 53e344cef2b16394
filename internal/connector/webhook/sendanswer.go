package webhook

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/pg-tide/pg-tide/internal/delivery"
)

const (
	// quoted is how much of an answer's text an error shows, in bytes.
	quoted = 200
	// longestPause bounds what a service may ask for with Retry-After.
	longestPause = time.Hour
)

// judge turns an answer into a verdict. Nothing but 2xx says that the service
// has the event.
func (s *Sender) judge(response *http.Response, text []byte) error {
	status := response.StatusCode
	if status >= 200 && status < 300 {
		return nil
	}
	err := fmt.Errorf("%s answered %d %s%s", s.settings.url.Host, status, http.StatusText(status), quote(text))
	after := retryAfter(response.Header.Get("Retry-After"), time.Now())
	switch status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return delivery.RetryAfter(err, after)
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusTooEarly:
		// 409: another request with this Idempotency-Key is being worked at.
		return delivery.RetryDoubtful(err, after)
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusGone:
		if s.ownPaths {
			return delivery.Reject(err)
		}
		return delivery.Misconfigured(fmt.Errorf("%w; check url", err))
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
		return delivery.Misconfigured(fmt.Errorf("%w; check signing_secret, bearer_token and the client's certificate", err))
	case http.StatusMisdirectedRequest, http.StatusUpgradeRequired, http.StatusPaymentRequired,
		http.StatusNotImplemented, http.StatusHTTPVersionNotSupported, http.StatusNetworkAuthenticationRequired:
		return delivery.Misconfigured(err)
	}
	switch {
	case status == http.StatusUnsupportedMediaType && s.batches:
		// The type is that of every request, and no event's fault.
		return delivery.Misconfigured(fmt.Errorf("%w; it takes no batches of CloudEvents: set wire_format to cloudevents", err))
	case status >= 300 && status < 400:
		return delivery.Misconfigured(fmt.Errorf("%w; redirects are not followed: write the new address into url", err))
	case status >= 500:
		return delivery.RetryDoubtful(err, after)
	}
	return delivery.Reject(err)
}

// explain turns what happened instead of an answer into a verdict. It leaves
// out the URL, which may hold a secret.
func (s *Sender) explain(err error, sent bool) error {
	host := s.settings.url.Host
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	var (
		refused     *addressError
		name        x509.HostnameError
		certificate *tls.CertificateVerificationError
		alert       tls.AlertError
		record      tls.RecordHeaderError
		dns         *net.DNSError
		op          *net.OpError
	)
	switch {
	case errors.As(err, &refused):
		return misconfigured("%s was not connected to: %w", host, refused)
	case errors.As(err, &name):
		return misconfigured("the certificate of %s is for another name: %w; set tls_server_name, or correct url", host, name)
	case errors.As(err, &certificate):
		return misconfigured("the certificate of %s is not trusted: %w; set tls_ca_file to the authority that signed it", host, certificate)
	case errors.As(err, &alert), errors.As(err, &record):
		return misconfigured("TLS with %s does not come about: %w; check the scheme in url and tls_cert_file", host, err)
	case errors.As(err, &dns):
		return fmt.Errorf("%s is not reachable, its name is not resolved: %w; check url", host, dns)
	case errors.As(err, &op) && op.Op == "dial":
		return fmt.Errorf("%s is not reachable: %w; check url, and that the service runs", host, op.Err)
	case !sent && errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s is not reachable: no connection within %s; check url, and that the service runs", host, s.settings.timeout)
	case !sent:
		return fmt.Errorf("%s is not reachable: %w", host, err)
	case errors.Is(err, context.DeadlineExceeded):
		return delivery.RetryDoubtful(fmt.Errorf("%s did not answer within %s", host, s.settings.timeout), 0)
	}
	return delivery.RetryDoubtful(fmt.Errorf("%s did not answer: %w", host, err), 0)
}

// quote shows the beginning of a text in one line.
func quote(text []byte) string {
	line := strings.Join(strings.Fields(strings.ToValidUTF8(string(text), "?")), " ")
	if line == "" {
		return ""
	}
	if len(line) > quoted {
		line = strings.ToValidUTF8(line[:quoted], "") + "…"
	}
	return fmt.Sprintf(": %q", line)
}

// retryAfter reads seconds or a date; 0 when it says nothing.
func retryAfter(text string, now time.Time) time.Duration {
	if text == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(strings.TrimSpace(text), 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, longestPause)
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(max(0, at.Sub(now)), longestPause)
	}
	return 0
}
