package mdns

import (
	"net"
	"net/netip"
	"time"
)

// A link knows which addresses are on it. It may be used by one goroutine.
type link struct {
	ifi      *net.Interface
	prefixes []netip.Prefix
	read     time.Time // when prefixes were
}

// near reports whether a may be on the link: it is link-local, or in a network
// that the interface has an address of.
func (l *link) near(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if a.IsLinkLocalUnicast() {
		return true
	}
	if time.Since(l.read) > time.Second { // a flood must not make us ask the kernel for each record
		l.prefixes, l.read = prefixes(l.ifi), time.Now()
	}
	for _, p := range l.prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// prefixes are the networks that ifi has addresses of, none if it is gone.
func prefixes(ifi *net.Interface) []netip.Prefix {
	addrs, err := ifi.Addrs()
	if err != nil {
		return nil
	}
	var out []netip.Prefix
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p.Masked())
		}
	}
	return out
}
