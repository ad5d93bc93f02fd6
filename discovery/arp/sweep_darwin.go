package arp

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/net/route"
	"golang.org/x/sys/unix"
)

// sweep leaves the work to connect: raw frames would need root and BPF devices.
func (s *Source) sweep(context.Context, func(netip.Addr, string)) error {
	return fmt.Errorf("%w: not on macOS", ErrNoRawSocket)
}

// raw reports whether a sweep will have raw sockets.
func (s *Source) raw() bool { return false }

// neighbors returns the kernel's neighbour table as arp -an and ndp -an print
// it, for one interface or, if ifindex is 0, for all. Zones are left out.
func neighbors(ifindex int) map[netip.Addr]string {
	macs := make(map[netip.Addr]string)
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		rib, err := route.FetchRIB(family, route.RIBType(unix.NET_RT_FLAGS), unix.RTF_LLINFO)
		if err != nil {
			continue // a hint only
		}
		messages, err := route.ParseRIB(route.RIBType(unix.NET_RT_FLAGS), rib)
		if err != nil {
			continue
		}
		for _, m := range messages {
			if a, mac, ok := entry(m, ifindex); ok {
				macs[a] = mac
			}
		}
	}
	return macs
}

func entry(m route.Message, ifindex int) (addr netip.Addr, mac string, ok bool) {
	r, ok := m.(*route.RouteMessage)
	if !ok || len(r.Addrs) <= unix.RTAX_GATEWAY || ifindex != 0 && r.Index != ifindex {
		return addr, "", false
	}
	switch d := r.Addrs[unix.RTAX_DST].(type) {
	case *route.Inet4Addr:
		addr = netip.AddrFrom4(d.IP)
	case *route.Inet6Addr:
		addr = netip.AddrFrom16(d.IP)
	default:
		return addr, "", false
	}
	link, ok := r.Addrs[unix.RTAX_GATEWAY].(*route.LinkAddr)
	if !ok || len(link.Addr) != 6 {
		return addr, "", false
	}
	return addr, net.HardwareAddr(link.Addr).String(), true
}
