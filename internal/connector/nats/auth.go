package nats

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/pg-tide/pg-tide/internal/delivery"
)

// address is where the broker is and how one proves who one is.
type address struct {
	urls            []string
	credentialsFile string
	nkeySeed        string
	token           string
	username        string
	password        string
	caFile          string
	certFile        string
	keyFile         string
	serverName      string
}

func readAddress(values Values) (address, error) {
	a := address{
		credentialsFile: values.String("credentials_file"),
		nkeySeed:        values.String("nkey_seed"),
		token:           values.String("token"),
		username:        values.String("username"),
		password:        values.String("password"),
		caFile:          values.String("tls_ca_file"),
		certFile:        values.String("tls_cert_file"),
		keyFile:         values.String("tls_key_file"),
		serverName:      values.String("tls_server_name"),
	}
	for url := range strings.SplitSeq(values.String("url"), ",") {
		if url = strings.TrimSpace(url); url != "" {
			a.urls = append(a.urls, url)
		}
	}
	return a, a.check()
}

func (a *address) check() error {
	if len(a.urls) == 0 {
		return misconfigured("url is empty; write the broker's address, such as nats://broker:4222")
	}
	for _, url := range a.urls {
		if scheme, _, found := strings.Cut(url, "://"); found && scheme != "nats" && scheme != "tls" && scheme != "ws" && scheme != "wss" {
			return misconfigured("url %q has the scheme %s; use nats:// or tls://", redact(url), scheme)
		}
	}
	var given []string
	for name, value := range map[string]string{"credentials_file": a.credentialsFile, "nkey_seed": a.nkeySeed, "token": a.token, "username": a.username} {
		if value != "" {
			given = append(given, name)
		}
	}
	if len(given) > 1 {
		return misconfigured("several ways to log in are given; keep one of credentials_file, nkey_seed, token and username with password")
	}
	if a.password != "" && a.username == "" {
		return misconfigured("password is given without username; add username, or use token")
	}
	if (a.certFile == "") != (a.keyFile == "") {
		return misconfigured("tls_cert_file and tls_key_file belong together; give both or none")
	}
	if a.nkeySeed != "" {
		if _, err := nkeyPair(a.nkeySeed); err != nil {
			return err
		}
	}
	return nil
}

// String names the broker without its secrets.
func (a *address) String() string {
	names := make([]string, 0, len(a.urls))
	for _, url := range a.urls {
		names = append(names, redact(url))
	}
	return strings.Join(names, ",")
}

// redact takes user, password and token out of a URL.
func redact(url string) string {
	scheme, rest, found := strings.Cut(url, "://")
	if !found {
		scheme, rest = "", url
	} else {
		scheme += "://"
	}
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		rest = rest[at+1:]
	}
	return scheme + rest
}

// options are the client's options for logging in and for TLS. Files are
// read each time, so that a renewed or mended one needs no restart.
func (a *address) options() ([]natsgo.Option, error) {
	options, err := a.loginOptions()
	if err != nil {
		return nil, err
	}
	secure, err := a.tlsConfig()
	if err != nil {
		return nil, err
	}
	if secure != nil {
		options = append(options, natsgo.Secure(secure))
	}
	return options, nil
}

func (a *address) loginOptions() ([]natsgo.Option, error) {
	switch {
	case a.credentialsFile != "":
		if err := readable("credentials_file", a.credentialsFile); err != nil {
			return nil, err
		}
		return []natsgo.Option{natsgo.UserCredentials(a.credentialsFile)}, nil
	case a.nkeySeed != "":
		pair, err := nkeyPair(a.nkeySeed)
		if err != nil {
			return nil, err
		}
		public, err := pair.PublicKey()
		if err != nil {
			return nil, misconfigured("nkey_seed has no public key; check that it is a user's seed, SU…")
		}
		return []natsgo.Option{natsgo.Nkey(public, pair.Sign)}, nil
	case a.token != "":
		return []natsgo.Option{natsgo.Token(a.token)}, nil
	case a.username != "":
		return []natsgo.Option{natsgo.UserInfo(a.username, a.password)}, nil
	}
	return nil, nil
}

// nkeyPair leaves the library's error out: it may quote the seed.
func nkeyPair(seed string) (nkeys.KeyPair, error) {
	pair, err := nkeys.FromSeed([]byte(strings.TrimSpace(seed)))
	if err != nil {
		return nil, misconfigured("nkey_seed is not the seed of an nkey; it starts with SU and is made by `nk -gen user`")
	}
	return pair, nil
}

// tlsConfig is nil when the configuration says nothing about TLS; a broker
// that asks for it is then checked against the system's certificates.
func (a *address) tlsConfig() (*tls.Config, error) {
	if a.caFile == "" && a.certFile == "" && a.serverName == "" {
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
		if err := readable("tls_cert_file", a.certFile); err != nil {
			return nil, err
		}
		if err := readable("tls_key_file", a.keyFile); err != nil {
			return nil, err
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
