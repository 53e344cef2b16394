package webhook_test

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/pg-tide/pg-tide/internal/connector/webhook"
	"github.com/pg-tide/pg-tide/internal/delivery"
)

func keyPEM(pair tls.Certificate) ([]byte, error) {
	if key, ok := pair.PrivateKey.(*ecdsa.PrivateKey); ok {
		der, err := x509.MarshalECPrivateKey(key)
		return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), err
	}
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), err
}

func TestOnlyPublicAddressesAreConnectedTo(t *testing.T) {
	t.Parallel()
	for address, public := range map[string]bool{
		"1.1.1.1": true, "8.8.8.8": true, "2606:4700::1111": true, "172.32.0.1": true, "100.128.0.1": true, "192.167.1.1": true,
		"127.0.0.1": false, "127.9.9.9": false, "0.0.0.0": false, "10.1.2.3": false, "172.16.0.1": false, "172.31.255.255": false,
		"192.168.1.1": false, "169.254.169.254": false, "100.64.0.1": false, "100.127.255.255": false, "100.100.100.200": false,
		"168.63.129.16": false, "192.0.0.192": false, "198.18.0.1": false, "224.0.0.1": false, "255.255.255.255": false, "240.0.0.1": false,
		"::1": false, "::": false, "fe80::1": false, "fd00:ec2::254": false, "fc00::1": false, "ff02::1": false,
		// the same in the clothes of IPv6
		"::ffff:127.0.0.1": false, "::ffff:169.254.169.254": false, "::ffff:8.8.8.8": true, "::127.0.0.1": false,
		"64:ff9b::7f00:1": false, "64:ff9b::a9fe:a9fe": false, "64:ff9b::808:808": true, "64:ff9b:1::a9fe:a9fe": false,
		"2002:7f00:1::1": false, "2001:0:0:1::1": false, "2001:db8::1": false, "fe80::1%eth0": false,
	} {
		err := webhook.CheckAddress("", false, netip.MustParseAddr(address))
		if (err == nil) != public {
			t.Errorf("%s: %v", address, err)
		}
		if err != nil && !strings.Contains(err.Error(), "allow_networks") {
			t.Errorf("%s: %q does not say what to do", address, err)
		}
	}
}

func TestAllowedNetworksAreConnectedTo(t *testing.T) {
	t.Parallel()
	for address, allowed := range map[string]bool{
		"10.1.9.9": true, "10.2.0.1": false, "::ffff:10.1.9.9": true, "127.0.0.1": true, "127.0.0.2": false, "fd12:3456::9": true, "fd12:3457::9": false,
		"64:ff9b::a01:909": true,
	} {
		err := webhook.CheckAddress("10.1.0.0/16, 127.0.0.1,fd12:3456::/32", false, netip.MustParseAddr(address))
		if (err == nil) != allowed {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// Without encryption even a public address has to be named.
func TestPlainHTTPReachesNamedNetworksOnly(t *testing.T) {
	t.Parallel()
	for address, allowed := range map[string]bool{"8.8.8.8": false, "10.1.0.1": true, "10.2.0.1": false} {
		err := webhook.CheckAddress("10.1.0.0/16", true, netip.MustParseAddr(address))
		if (err == nil) != allowed {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// The address that counts is the one that a name leads to when the connection
// is made.
func TestANameThatLeadsInsideIsNotConnectedTo(t *testing.T) {
	t.Parallel()
	s := startService(t, nil)
	_, port, err := net.SplitHostPort(s.address)
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"localhost", "127.0.0.1", "[::ffff:127.0.0.1]"} {
		sender := newSender(t, values{"url": "https://" + net.JoinHostPort(strings.Trim(host, "[]"), port)})
		err := sender.Post(t.Context(), &events(1, "a")[0])
		if verdict, _ := delivery.VerdictOf(err); verdict != delivery.VerdictMisconfigured || !strings.Contains(err.Error(), "not a public address") {
			t.Errorf("%s: %v", host, err)
		}
	}
	if s.asked() != 0 {
		t.Error("a request arrived")
	}
}
