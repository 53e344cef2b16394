// Package tlstest makes an authority and certificates for tests of TLS. They
// are valid for an hour and serve the loopback alone.
package tlstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Certificates are the paths of an authority's certificate and of what it
// signed: a server's (for ServerName and 127.0.0.1) and a client's.
type Certificates struct {
	CA, ServerCert, ServerKey, ClientCert, ClientKey string
}

// ServerName is the name in a server's certificate.
const ServerName = "broker.test"

// New makes an authority and certificates that are valid for an hour.
func New(t testing.TB) *Certificates {
	t.Helper()
	dir := t.TempDir()
	authority, authorityKey := certificate(t, 1, nil, nil)
	c := &Certificates{CA: filepath.Join(dir, "ca.pem")}
	write(t, c.CA, "CERTIFICATE", authority.Raw)
	for i, name := range []string{"server", "client"} {
		signed, key := certificate(t, int64(i+2), authority, authorityKey)
		certPath, keyPath := filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
		write(t, certPath, "CERTIFICATE", signed.Raw)
		text, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatalf("encode a key: %v", err)
		}
		write(t, keyPath, "PRIVATE KEY", text)
		if name == "server" {
			c.ServerCert, c.ServerKey = certPath, keyPath
		} else {
			c.ClientCert, c.ClientKey = certPath, keyPath
		}
	}
	return c
}

func certificate(t testing.TB, serial int64, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatalf("make a key: %v", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial),
		Subject:      pkix.Name{CommonName: ServerName},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:     []string{ServerName},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	if parent == nil {
		template.IsCA, template.BasicConstraintsValid = true, true
		template.KeyUsage |= x509.KeyUsageCertSign
		parent, parentKey = template, key
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		t.Fatalf("sign a certificate: %v", err)
	}
	signed, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatalf("read a certificate: %v", err)
	}
	return signed, key
}

func write(t testing.TB, path, kind string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}), 0o600); err != nil {
		t.Fatalf("write %s: %v", path, err)
	}
}
