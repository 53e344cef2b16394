package kafka

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/pg-tide/pg-tide/internal/delivery"
)

// address is where the brokers are and how one proves who one is.
type address struct {
	brokers    []string
	login      login
	tls        bool
	caFile     string
	certFile   string
	keyFile    string
	serverName string
}

func readAddress(values Values) (address, error) {
	a := address{
		brokers:    listOf(values.String("brokers")),
		login:      readLogin(values),
		caFile:     values.String("tls_ca_file"),
		certFile:   values.String("tls_cert_file"),
		keyFile:    values.String("tls_key_file"),
		serverName: values.String("tls_server_name"),
	}
	some := a.caFile != "" || a.certFile != "" || a.keyFile != "" || a.serverName != ""
	a.tls = some
	if values.Has("tls") {
		a.tls = values.Bool("tls")
		if some && !a.tls {
			return a, misconfigured("tls is false and another tls_ key is given; leave out one of them")
		}
	}
	return a, a.check()
}

func (a *address) check() error {
	if len(a.brokers) == 0 {
		return misconfigured("brokers is empty; write some brokers' addresses, such as kafka-1:9092,kafka-2:9092")
	}
	for _, broker := range a.brokers {
		if strings.Contains(broker, "://") {
			return misconfigured("brokers has %q; write host:port without a scheme, and \"tls\": true for TLS", redact(broker))
		}
		if _, port, err := net.SplitHostPort(broker); err != nil || port == "" {
			return misconfigured("brokers has %q, which is not host:port; write it like kafka-1:9092", broker)
		}
	}
	if (a.certFile == "") != (a.keyFile == "") {
		return misconfigured("tls_cert_file and tls_key_file belong together; give both or none")
	}
	return a.login.check(a.tls)
}

// redact takes user and password out of a URL.
func redact(url string) string {
	scheme, rest, _ := strings.Cut(url, "://")
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		rest = rest[at+1:]
	}
	return scheme + "://" + rest
}

// String names the brokers.
func (a *address) String() string { return strings.Join(a.brokers, ",") }

// tlsConfig is nil without TLS. Files are read each time, so that a renewed or
// mended one needs no restart.
func (a *address) tlsConfig() (*tls.Config, error) {
	if !a.tls {
		return nil, nil
	}
	secure := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: a.serverName}
	if a.caFile != "" {
		text, err := os.ReadFile(a.caFile)
		if err != nil {
			return nil, unreadable("tls_ca_file", a.caFile, err)
		}
		secure.RootCAs = x509.NewCertPool()
		if !secure.RootCAs.AppendCertsFromPEM(text) {
			return nil, misconfigured("tls_ca_file %q holds no certificate in PEM form", a.caFile)
		}
	}
	if a.certFile != "" {
		for key, path := range map[string]string{"tls_cert_file": a.certFile, "tls_key_file": a.keyFile} {
			if err := readable(key, path); err != nil {
				return nil, err
			}
		}
		pair, err := tls.LoadX509KeyPair(a.certFile, a.keyFile)
		if err != nil {
			return nil, misconfigured("tls_cert_file %q and tls_key_file %q are not a pair: %w", a.certFile, a.keyFile, err)
		}
		secure.Certificates = []tls.Certificate{pair}
	}
	return secure, nil
}

func readable(key, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return unreadable(key, path, err)
	}
	return file.Close()
}

func unreadable(key, path string, err error) error {
	return delivery.Misconfigured(fmt.Errorf("%s %q cannot be read by the relay: %w", key, path, err))
}
