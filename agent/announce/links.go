//go:build linux

package announce

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A link is an interface that is announced on.
type link struct {
	index     int
	name      string
	addresses []netip.Addr // sorted, never empty
}

func (l link) equal(o link) bool {
	return l.index == o.index && l.name == o.name && slices.Equal(l.addresses, o.addresses)
}

// network reads the links that can be announced on, and the card that stands for
// this machine: the first real one, whether it is up or not. The card is nil if
// there is none yet.
func network() ([]link, net.HardwareAddr, error) {
	all, err := netlink.LinkList()
	if err != nil {
		return nil, nil, fmt.Errorf("list network links: %w", err)
	}
	addresses, err := addresses()
	if err != nil {
		return nil, nil, err
	}
	var links []link
	for _, l := range all {
		a := l.Attrs()
		if usable(l) && len(addresses[a.Index]) > 0 {
			links = append(links, link{a.Index, a.Name, addresses[a.Index]})
		}
	}
	slices.SortFunc(links, func(a, b link) int { return cmp.Compare(a.index, b.index) })
	return links, card(all), nil
}

// usable reports whether l has a carrier and a LAN behind it. A tailnet finds
// its machines by itself, and mDNS has no place on it.
func usable(l netlink.Link) bool {
	const want = unix.IFF_UP | unix.IFF_RUNNING | unix.IFF_MULTICAST
	a := l.Attrs()
	return a.RawFlags&want == want && a.RawFlags&unix.IFF_LOOPBACK == 0 && !strings.HasPrefix(a.Name, "tailscale")
}

// addresses returns the addresses of each link by its index. Those that the
// kernel still checks for duplicates are left out: they cannot be used, and
// there is an event when they can (RFC 4862 section 5.4).
func addresses() (map[int][]netip.Addr, error) {
	list, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list network addresses: %w", err)
	}
	out := make(map[int][]netip.Addr)
	for _, a := range list {
		ip, ok := netip.AddrFromSlice(a.IP)
		if ok && a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) == 0 {
			out[a.LinkIndex] = append(out[a.LinkIndex], ip.Unmap())
		}
	}
	for _, a := range out {
		slices.SortFunc(a, netip.Addr.Compare)
	}
	return out, nil
}

// card chooses the link address that the machine is known by: that of the first
// card with hardware behind it, else of the first Ethernet-like link.
func card(all []netlink.Link) net.HardwareAddr {
	cards := slices.DeleteFunc(slices.Clone(all), func(l netlink.Link) bool {
		a := l.Attrs()
		return a.RawFlags&unix.IFF_LOOPBACK != 0 || len(a.HardwareAddr) != 6
	})
	if len(cards) == 0 {
		return nil
	}
	a := slices.MinFunc(cards, func(a, b netlink.Link) int {
		return cmp.Or(cmp.Compare(virtual(a), virtual(b)), cmp.Compare(a.Attrs().Index, b.Attrs().Index))
	}).Attrs()
	if len(a.PermHWAddr) == 6 {
		return a.PermHWAddr // NetworkManager lends Wi-Fi cards random ones
	}
	return a.HardwareAddr
}

// virtual is 1 if no device is behind the link, else 0.
func virtual(l netlink.Link) int {
	if _, err := os.Stat(filepath.Join("/sys/class/net", l.Attrs().Name, "device")); err != nil {
		return 1
	}
	return 0
}

// subscribe returns a channel that gets a value after the network changed; values
// that nobody took yet are merged. It is closed if the subscription breaks, as it
// does when ctx is done.
func subscribe(ctx context.Context) (<-chan struct{}, error) {
	links, addrs := make(chan netlink.LinkUpdate), make(chan netlink.AddrUpdate)
	if err := netlink.LinkSubscribeWithOptions(links, ctx.Done(), netlink.LinkSubscribeOptions{ErrorCallback: ignore}); err != nil {
		return nil, fmt.Errorf("subscribe to network links: %w", err)
	}
	if err := netlink.AddrSubscribeWithOptions(addrs, ctx.Done(), netlink.AddrSubscribeOptions{ErrorCallback: ignore}); err != nil {
		go drain(links)
		return nil, fmt.Errorf("subscribe to network addresses: %w", err)
	}
	changes := make(chan struct{}, 1)
	go func() {
		defer close(changes)
		for open := true; open; {
			select {
			case _, open = <-links:
			case _, open = <-addrs:
			}
			select {
			case changes <- struct{}{}:
			default:
			}
		}
		go drain(links)
		drain(addrs)
	}()
	return changes, nil
}

// ignore takes the errors of a subscription: one that matters closes its channel.
func ignore(error) {}

// drain lets the goroutine that sends to c end once its socket is closed.
func drain[T any](c <-chan T) {
	for range c {
	}
}
