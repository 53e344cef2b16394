package webhook

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
)

// addressRule says which addresses may be connected to. It is asked at the
// dial, with the address that the name was resolved to: whoever is asked about
// the name before can answer differently when the connection is made.
type addressRule struct {
	allowed []netip.Prefix
	// plain says that nothing is encrypted: then only allowed networks will do.
	plain bool
}

// addressError refuses an address. It is for a person to mend.
type addressError struct{ text string }

func (e *addressError) Error() string { return e.text }

// readNetworks reads networks that are separated by commas; a single address
// is a network of its own.
func readNetworks(text string) ([]netip.Prefix, error) {
	var networks []netip.Prefix
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		if address, err := netip.ParseAddr(part); err == nil && address.Zone() == "" {
			networks = append(networks, netip.PrefixFrom(address.Unmap(), address.Unmap().BitLen()))
			continue
		}
		network, err := netip.ParsePrefix(part)
		if err != nil {
			return nil, misconfigured("allow_networks holds %q, which is no network; write them like 10.1.0.0/16, 127.0.0.1, fd12:3456::/32", part)
		}
		networks = append(networks, network.Masked())
	}
	return networks, nil
}

// control is called by the dialer for each address, before it connects.
func (r *addressRule) control(_ context.Context, _, address string, _ syscall.RawConn) error {
	target, err := netip.ParseAddrPort(address)
	if err != nil {
		return &addressError{fmt.Sprintf("address %q cannot be checked", address)}
	}
	return r.check(target.Addr())
}

func (r *addressRule) check(address netip.Addr) error {
	address = address.WithZone("").Unmap()
	meant := embedded(address)
	for _, network := range r.allowed {
		if network.Contains(address) || network.Contains(meant) {
			return nil
		}
	}
	if r.plain {
		return &addressError{fmt.Sprintf("%s may be reached by https:// only; use it, or name the network in allow_networks if it is one that nobody else listens on", address)}
	}
	if isPublic(meant) {
		return nil
	}
	return &addressError{fmt.Sprintf("%s is not a public address; if the service is meant to be there, name its network in allow_networks", address)}
}

// embedded returns the IPv4 address that a NAT64 gateway would connect to, or
// the address itself.
func embedded(address netip.Addr) netip.Addr {
	if !netip.MustParsePrefix("64:ff9b::/96").Contains(address) {
		return address
	}
	b := address.As16()
	return netip.AddrFrom4([4]byte(b[12:]))
}

// isPublic tells whether an address is one of the whole internet: not of this
// machine, a private or shared network, a link, a group, a tunnel, or a
// cloud's metadata.
func isPublic(address netip.Addr) bool {
	if address.Is6() && !netip.MustParsePrefix("2000::/3").Contains(address) {
		return false
	}
	for _, network := range specialNetworks() {
		if network.Contains(address) {
			return false
		}
	}
	return true
}

// specialNetworks are those of the registries of special-purpose addresses,
// as far as nothing public is in them, and an address that Azure's machines
// are served metadata from although it looks public.
func specialNetworks() []netip.Prefix {
	texts := []string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
		"192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
		"2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "168.63.129.16/32",
	}
	networks := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		networks[i] = netip.MustParsePrefix(text)
	}
	return networks
}
