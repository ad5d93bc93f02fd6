package arp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// ErrTooLarge is wrapped by the errors for networks that have too many
// addresses to be swept.
var ErrTooLarge = errors.New("network too large")

// Bounds on what is swept. A /20 takes 0.4 s of requests at the default rate.
const (
	maxTargets = 1 << 16 // if named by the user
	maxOwn     = 1 << 12 // of a network the interface happens to be in
	maxConnect = 1 << 10 // without raw sockets: the kernel holds 1,024 neighbours
)

// A target is an address to ask, and the address of ours that asks.
type target struct{ addr, source netip.Addr }

// targets lists all addresses to ask, most of them in all. With an error come
// those that are to be asked nevertheless.
func (s *Source) targets(most int) ([]target, error) {
	own, err := addresses(s.Interface)
	if err != nil {
		return nil, err
	}
	if s.Prefixes != nil {
		return named(s.Interface.Name, s.Prefixes, own, most)
	}
	var list []target
	var errs []error
	for _, p := range own {
		if !p.Addr().Is4() || p.Addr().IsLinkLocalUnicast() || p.IsSingleIP() {
			continue
		}
		if n := size(p); n > maxOwn || n > most {
			errs = append(errs, tooLarge(p, min(maxOwn, most)))
			continue
		}
		list = appendHosts(list, p, own)
	}
	return unique(list), errors.Join(errs...)
}

// named lists the addresses of networks that the user chose.
func named(iface string, prefixes, own []netip.Prefix, most int) ([]target, error) {
	if !slices.ContainsFunc(own, func(p netip.Prefix) bool { return p.Addr().Is4() }) {
		return nil, fmt.Errorf("interface %q has no IPv4 address to ask from", iface)
	}
	var list []target
	for _, p := range prefixes {
		if !p.IsValid() || !p.Addr().Is4() {
			return nil, fmt.Errorf("network %q is not IPv4: IPv6 neighbours are found without naming a network", p)
		}
		if size(p) > most || len(list)+size(p) > most {
			return nil, tooLarge(p, most)
		}
		list = appendHosts(list, p, own)
	}
	return unique(list), nil
}

func tooLarge(p netip.Prefix, most int) error {
	return fmt.Errorf("%w: %q has %d addresses, the limit is %d: name the part of it to search", ErrTooLarge, p.Masked(), size(p), most)
}

func size(p netip.Prefix) int { return 1 << (32 - p.Bits()) }

// appendHosts appends the addresses in p that a host can have, without ours.
func appendHosts(list []target, p netip.Prefix, own []netip.Prefix) []target {
	source := sourceFor(p, own)
	first, n := p.Masked().Addr(), size(p)
	for i, a := 0, first; i < n; i, a = i+1, a.Next() {
		if p.Bits() < 31 && (i == 0 || i == n-1) { // the network and its broadcast address; RFC 3021 has none in a /31
			continue
		}
		if !slices.ContainsFunc(own, func(o netip.Prefix) bool { return o.Addr() == a }) {
			list = append(list, target{a, source})
		}
	}
	return list
}

// sourceFor returns the address of ours that hosts in p are most likely to
// answer to.
func sourceFor(p netip.Prefix, own []netip.Prefix) netip.Addr {
	var source netip.Addr
	for _, o := range own {
		if o.Addr().Is4() && (!source.IsValid() || o.Overlaps(p)) {
			source = o.Addr()
			if o.Overlaps(p) {
				break
			}
		}
	}
	return source
}

func unique(list []target) []target {
	slices.SortFunc(list, func(a, b target) int { return a.addr.Compare(b.addr) })
	return slices.CompactFunc(list, func(a, b target) bool { return a.addr == b.addr })
}

// addresses returns the addresses of an interface, each with its network's length.
func addresses(iface *net.Interface) ([]netip.Prefix, error) {
	addrs, err := iface.Addrs()
	if err != nil {
		return nil, fmt.Errorf("addresses of %q: %w", iface.Name, err)
	}
	var list []netip.Prefix
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			list = append(list, p)
		}
	}
	return list, nil
}

// virtual are the beginnings of the names of interfaces that lead to no LAN:
// containers, virtual machines, tunnels, and Apple's device-to-device links.
var virtual = []string{
	"tailscale", "docker", "podman", "veth", "br-", "virbr", "cni", "cali", "flannel", "cilium",
	"wg", "tun", "tap", "utun", "zt", "awdl", "llw",
}

// Interfaces returns the interfaces that are worth a [Source]: those that are
// up, have an address, and lead to a LAN as far as their name tells.
func Interfaces() ([]*net.Interface, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	var list []*net.Interface
	for i := range all {
		if addrs, err := addresses(&all[i]); err == nil && suitable(&all[i]) && len(addrs) > 0 {
			list = append(list, &all[i])
		}
	}
	return list, nil
}

func suitable(iface *net.Interface) bool {
	const want = net.FlagUp | net.FlagBroadcast | net.FlagMulticast
	return iface.Flags&want == want && iface.Flags&(net.FlagLoopback|net.FlagPointToPoint) == 0 &&
		!slices.ContainsFunc(virtual, func(v string) bool { return strings.HasPrefix(iface.Name, v) })
}
