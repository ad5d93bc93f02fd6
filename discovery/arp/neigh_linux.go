package arp

import (
	"errors"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// neighbors returns the kernel's neighbour table for an interface, or for all
// if ifindex is 0: the addresses, without zones, whose MAC is known. It is at
// most some thousand entries long (sysctl net.ipv4.neigh.default.gc_thresh3).
func neighbors(ifindex int) map[netip.Addr]string {
	const unresolved = netlink.NUD_INCOMPLETE | netlink.NUD_FAILED | netlink.NUD_NOARP
	macs := make(map[netip.Addr]string)
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		list, err := netlink.NeighList(ifindex, family)
		if err != nil {
			continue // a hint only
		}
		for _, n := range list {
			a, ok := netip.AddrFromSlice(n.IP)
			if ok && n.State&unresolved == 0 && len(n.HardwareAddr) == 6 {
				macs[a.Unmap()] = n.HardwareAddr.String()
			}
		}
	}
	return macs
}

// enter tells the kernel what ARP told us, so that the connection which
// follows need not ask again: the kernel repeats a lost request after 1 s. What
// an administrator entered stays. It needs CAP_NET_ADMIN.
func enter(ifindex int, addr netip.Addr, mac hwaddr) error {
	n := &netlink.Neigh{
		LinkIndex: ifindex, State: netlink.NUD_REACHABLE, Family: unix.AF_INET,
		IP: addr.AsSlice(), HardwareAddr: mac[:],
	}
	err := netlink.NeighAdd(n)
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	list, err := netlink.NeighList(ifindex, unix.AF_INET)
	if err != nil {
		return err
	}
	for _, old := range list {
		if old.IP.Equal(net.IP(n.IP)) && old.State&(netlink.NUD_PERMANENT|netlink.NUD_NOARP) != 0 {
			return nil
		}
	}
	return netlink.NeighSet(n)
}
