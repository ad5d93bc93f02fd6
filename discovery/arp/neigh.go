package arp

import "net/netip"

// Neighbor returns the MAC address, "52:54:00:12:34:56", that the kernel has
// for an address on the link of the interface with index ifindex. If ifindex is
// 0, any interface will do. It knows those whom the machine talked to lately.
func Neighbor(ifindex int, addr netip.Addr) (mac string, ok bool) {
	mac, ok = neighbors(ifindex)[addr.WithZone("").Unmap()]
	return mac, ok
}
