package webhook

import (
	"fmt"
	"net"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/pg-tide/pg-tide/internal/config"
)

// SourceValues is what receiving needs of a decoded configuration: defaults
// filled in, secrets resolved.
type SourceValues interface {
	String(name string) string
	Int(name string) int64
	Float(name string) float64
	Bool(name string) bool
}

const (
	defaultListen          = "127.0.0.1:8434"
	defaultTolerance       = 300
	defaultReceiveBytes    = 1 << 20
	mostReceiveBytes       = 64 << 20
	defaultMaxPending      = 256
	defaultResponseTimeout = 10.0
	defaultSignatureHeader = "X-Signature"
)

// The ways in which senders sign.
const (
	signedNot      = "none"
	signedStandard = "standard_webhooks"
	signedGitHub   = "github"
	signedStripe   = "stripe"
	signedHMAC     = "hmac_sha256"
)

// SourceFields declares the keys of a pipeline with "source_type": "webhook".
func SourceFields() []config.Field {
	return []config.Field{
		{Name: "listen", Kind: config.String, Default: defaultListen,
			Help: "Address to listen on, host:port, this machine's own by default; pipelines with different paths may share it"},
		{Name: "path", Kind: config.String, Help: "Path that requests are posted to; else / and the pipeline's name"},
		{Name: "signature", Kind: config.String, Required: true, Values: []string{signedStandard, signedGitHub, signedStripe, signedHMAC, signedNot},
			Help: "How requests are signed; none takes what anybody sends"},
		{Name: "secret", Kind: config.String, Secret: true, Help: "Secret that requests are signed with"},
		{Name: "previous_secret", Kind: config.String, Secret: true, Help: "Secret that is accepted besides, while the sender changes to another"},
		{Name: "signature_header", Kind: config.String, Default: defaultSignatureHeader, Help: "Header of the signature, for hmac_sha256"},
		{Name: "signature_encoding", Kind: config.String, Default: "hex", Values: []string{"hex", "base64"}, Help: "How the signature is written, for hmac_sha256"},
		{Name: "signature_prefix", Kind: config.String, Help: "What stands before the signature in its header, such as sha256=, for hmac_sha256"},
		{Name: "tolerance_seconds", Kind: config.Integer, Default: defaultTolerance, Min: 1, Max: 86400,
			Help: "How far a signed time may be from the relay's clock, for standard_webhooks and stripe"},
		{Name: "allow_unsigned", Kind: config.Boolean, Default: false, Help: "Take unsigned requests on an address that other machines reach"},
		{Name: "id_header", Kind: config.String, Help: "Header by which a request that comes again is known, where the sender has one of its own"},
		{Name: "type_header", Kind: config.String, Help: "Header that becomes the event type"},
		{Name: "max_body_bytes", Kind: config.Integer, Default: defaultReceiveBytes, Min: 1, Max: mostReceiveBytes, Help: "Largest body that is taken"},
		{Name: "max_requests_per_second", Kind: config.Number, Min: 0.001, Max: 1e6, Help: "Requests a second that are looked at; others are told to come later"},
		{Name: "max_pending", Kind: config.Integer, Default: defaultMaxPending, Min: 1, Max: 100_000, Help: "Requests that may wait for the inbox at once; others are told to come later"},
		{Name: "response_timeout_seconds", Kind: config.Number, Default: defaultResponseTimeout, Min: 0.1, Max: 300,
			Help: "How long a request may wait for the inbox before it is told to come later"},
		{Name: "tls_cert_file", Kind: config.String, Help: "Path of the certificate to serve HTTPS with; else HTTP"},
		{Name: "tls_key_file", Kind: config.String, Help: "Path of its private key"},
	}
}

// sourceSettings are the checked values.
type sourceSettings struct {
	listen, path            string
	certificate, key        string
	idHeader, typeHeader    string
	maxBody                 int64
	maxPending              int
	perSecond               float64
	responseTimeout         time.Duration
	scheme, signatureHeader string
	verify                  verifier
}

func readSourceSettings(values SourceValues, pipeline string) (sourceSettings, error) {
	s := sourceSettings{
		listen: values.String("listen"), path: values.String("path"),
		certificate: values.String("tls_cert_file"), key: values.String("tls_key_file"),
		idHeader: http.CanonicalHeaderKey(values.String("id_header")), typeHeader: http.CanonicalHeaderKey(values.String("type_header")),
		maxBody: values.Int("max_body_bytes"), maxPending: int(values.Int("max_pending")),
		perSecond:       values.Float("max_requests_per_second"),
		responseTimeout: time.Duration(values.Float("response_timeout_seconds") * float64(time.Second)),
		scheme:          values.String("signature"),
	}
	if s.path == "" {
		s.path = "/" + pipeline
	}
	if !strings.HasPrefix(s.path, "/") || path.Clean(s.path) != s.path || strings.ContainsAny(s.path, "?#% ") {
		return s, fmt.Errorf("key %q is %q but must be a plain path such as /hooks/orders", "path", s.path)
	}
	loopback, err := isLoopback(s.listen)
	if err != nil {
		return s, err
	}
	switch {
	case (s.certificate == "") != (s.key == ""):
		return s, fmt.Errorf("keys %q and %q are given together or not at all", "tls_cert_file", "tls_key_file")
	case s.scheme == signedNot && !loopback && !values.Bool("allow_unsigned"):
		return s, fmt.Errorf("key %q is %q on %s, which other machines reach: anybody could fill the inbox; choose a signature, listen on 127.0.0.1 behind a proxy, or set allow_unsigned",
			"signature", signedNot, s.listen)
	}
	s.verify, s.signatureHeader, err = newVerifier(values)
	return s, err
}

func isLoopback(listen string) (bool, error) {
	host, port, err := net.SplitHostPort(listen)
	number, numeric := strconv.Atoi(port)
	if err != nil || numeric != nil || number < 0 || number > 65535 {
		return false, fmt.Errorf("key %q is %q but must be host:port, such as %s or 0.0.0.0:8434", "listen", listen, defaultListen)
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback(), nil
}
