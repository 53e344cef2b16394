package kafkatest

import (
	"testing"

	"github.com/pg-tide/pg-tide/internal/testkit/tlstest"
)

// Certificates are those of a server and a client.
type Certificates = tlstest.Certificates

// ServerName is the name in a server's certificate.
const ServerName = tlstest.ServerName

// CertificateUser is who the client's certificate is of, as ACLs name it.
const CertificateUser = "CN=" + tlstest.ServerName

// NewCertificates makes an authority and certificates that are valid for an hour.
func NewCertificates(t testing.TB) *Certificates {
	t.Helper()
	return tlstest.New(t)
}
