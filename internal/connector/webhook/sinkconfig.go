package webhook

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/pg-tide/pg-tide/internal/config"
	"github.com/pg-tide/pg-tide/internal/delivery"
)

// SendValues is what posting needs of a decoded configuration: defaults filled
// in, secrets resolved.
type SendValues interface {
	String(name string) string
	Int(name string) int64
	Float(name string) float64
}

// SinkValues is what a pipeline's sink needs of it besides.
type SinkValues interface {
	SendValues
	Has(name string) bool
}

const (
	defaultSendTimeout = 10.0
	maxSendTimeout     = 300
	maxConcurrency     = 256
)

// SinkFields declares the keys of a pipeline with "sink_type": "webhook".
func SinkFields() []config.Field {
	return append(SendFields(1),
		config.Field{Name: "path_template", Kind: config.String, Aliases: []string{"path"}, Default: "/",
			Help: "Path behind that of url, with placeholders; / is url itself"},
		config.Field{Name: batchEventsKey, Kind: config.Integer, Default: defaultBatchEvents, Min: 1, Max: mostBatchEvents,
			Help: "Most events in one request, with wire_format cloudevents_batch"})
}

// SendFields declares the keys of whatever posts events; concurrency is how
// many requests are out at once unless the configuration says so.
func SendFields(concurrency int) []config.Field {
	return []config.Field{
		{Name: "url", Kind: config.String, Required: true,
			Help: "Address that events are posted to, https://; http:// only to what allow_networks names"},
		{Name: "signing_secret", Kind: config.String, Secret: true,
			Help: "Secret that requests are signed with as Standard Webhooks has it, whsec_…; without it they are not signed"},
		{Name: "previous_signing_secret", Kind: config.String, Secret: true,
			Help: "Secret that requests are signed with besides, while receivers change from it to signing_secret"},
		{Name: "bearer_token", Kind: config.String, Secret: true, Help: "Token that is sent as Authorization: Bearer"},
		{Name: "concurrency", Kind: config.Integer, Default: concurrency, Min: 1, Max: maxConcurrency,
			Help: "Requests that are out at once, of one key one at a time"},
		{Name: "timeout_seconds", Kind: config.Number, Default: defaultSendTimeout, Min: 0.1, Max: maxSendTimeout,
			Help: "How long one request may take, its answer included"},
		{Name: "max_body_bytes", Kind: config.Integer, Min: 1, Max: 1 << 30,
			Help: "Largest body that is posted; a larger event is refused without a request"},
		{Name: "allow_networks", Kind: config.String,
			Help: "Networks besides the public ones that may be connected to, separated by commas, such as 10.1.0.0/16"},
		{Name: "tls_ca_file", Kind: config.String, Aliases: []string{"tls_ca_cert"},
			Help: "Path of the certificates that the service's is checked against; else the system's"},
		{Name: "tls_cert_file", Kind: config.String, Help: "Path of the client's certificate"},
		{Name: "tls_key_file", Kind: config.String, Help: "Path of the client's private key"},
		{Name: "tls_server_name", Kind: config.String,
			Help: "Name expected in the service's certificate, where it is not the one in url"},
	}
}

// sendSettings are the checked keys.
type sendSettings struct {
	url         *url.URL
	token       string
	concurrency int
	timeout     time.Duration
	maxBody     int
	rule        addressRule
	tls         tlsFiles
}

type tlsFiles struct{ ca, cert, key, serverName string }

func readSendSettings(values SendValues) (sendSettings, error) {
	s := sendSettings{
		token:       values.String("bearer_token"),
		concurrency: max(1, int(values.Int("concurrency"))),
		timeout:     time.Duration(values.Float("timeout_seconds") * float64(time.Second)),
		maxBody:     int(values.Int("max_body_bytes")),
		tls: tlsFiles{ca: values.String("tls_ca_file"), cert: values.String("tls_cert_file"), key: values.String("tls_key_file"),
			serverName: values.String("tls_server_name")},
	}
	if s.timeout <= 0 {
		s.timeout = time.Duration(defaultSendTimeout * float64(time.Second))
	}
	if strings.ContainsFunc(s.token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return s, misconfigured("bearer_token holds a blank or a character that no header may have")
	}
	if (s.tls.cert == "") != (s.tls.key == "") {
		return s, misconfigured("tls_cert_file and tls_key_file belong together; give both or none")
	}
	var err error
	if s.url, err = readURL(values.String("url")); err != nil {
		return s, err
	}
	if s.rule.allowed, err = readNetworks(values.String("allow_networks")); err != nil {
		return s, err
	}
	s.rule.plain = s.url.Scheme == "http"
	if s.rule.plain && len(s.rule.allowed) == 0 {
		return s, misconfigured("url has the scheme http, and nothing would be encrypted; use https://, or name the service's own network in allow_networks")
	}
	return s, nil
}

// readURL leaves the library's error out: it quotes the URL, which may hold a secret.
func readURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "":
		return nil, misconfigured("url is not an address; write it like https://example.com/hooks")
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, misconfigured("url has the scheme %q; use https://", u.Scheme)
	case u.User != nil:
		return nil, misconfigured("url holds a user or password; give bearer_token instead")
	case u.Fragment != "":
		return nil, misconfigured("url has a fragment (#…), which is never sent; leave it out")
	}
	return u, nil
}

// config reads the files each time, so that a renewed or mended one needs no restart.
func (f *tlsFiles) config() (*tls.Config, error) {
	secure := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: f.serverName}
	if f.ca != "" {
		text, err := os.ReadFile(f.ca)
		if err != nil {
			return nil, misconfigured("tls_ca_file %q cannot be read by the relay: %w", f.ca, err)
		}
		secure.RootCAs = x509.NewCertPool()
		if !secure.RootCAs.AppendCertsFromPEM(text) {
			return nil, misconfigured("tls_ca_file %q holds no certificate in PEM form", f.ca)
		}
	}
	if f.cert != "" {
		pair, err := tls.LoadX509KeyPair(f.cert, f.key)
		if err != nil {
			return nil, misconfigured("tls_cert_file %q and tls_key_file %q cannot be used: %w", f.cert, f.key, err)
		}
		secure.Certificates = []tls.Certificate{pair}
	}
	return secure, nil
}

func misconfigured(format string, args ...any) error {
	return delivery.Misconfigured(fmt.Errorf(format, args...))
}
