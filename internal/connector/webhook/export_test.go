package webhook

import "net/netip"

// CheckAddress says why an address would not be connected to.
func CheckAddress(networks string, plain bool, address netip.Addr) error {
	allowed, err := readNetworks(networks)
	if err != nil {
		return err
	}
	rule := addressRule{allowed: allowed, plain: plain}
	return rule.check(address)
}
