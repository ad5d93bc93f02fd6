//go:build linux

package announce

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"github.com/miekg/dns"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// The groups and the port of multicast DNS (RFC 6762 section 3).
var (
	group4 = &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: 5353}
	group6 = &net.UDPAddr{IP: net.ParseIP("ff02::fb"), Port: 5353}
)

// hops is the time to live that shows a receiver that a packet was not routed
// (RFC 6762 section 11).
const hops = 255

// speak sends records as one response to everybody on l, over IPv4 and IPv6 as l
// has addresses. mdns.Server can only answer whoever asks.
func speak(ctx context.Context, l link, records []dns.RR) error {
	m := &dns.Msg{MsgHdr: dns.MsgHdr{Response: true, Authoritative: true}, Compress: true, Answer: records}
	packet, err := m.Pack()
	if err != nil {
		return fmt.Errorf("pack announcement: %w", err)
	}
	ifi := &net.Interface{Index: l.index, Name: l.name}
	var err4, err6 error
	if slices.ContainsFunc(l.addresses, netip.Addr.Is4) {
		err4 = speak4(ctx, ifi, packet)
	}
	if slices.ContainsFunc(l.addresses, netip.Addr.Is6) {
		err6 = speak6(ctx, ifi, packet)
	}
	if err := errors.Join(err4, err6); err != nil {
		return fmt.Errorf("announce on %q: %w", l.name, err)
	}
	return nil
}

func speak4(ctx context.Context, ifi *net.Interface, packet []byte) error {
	c, err := listen(ctx, "udp4")
	if err != nil {
		return err
	}
	defer c.Close()
	p := ipv4.NewPacketConn(c)
	if err := errors.Join(p.SetMulticastInterface(ifi), p.SetMulticastTTL(hops), p.SetMulticastLoopback(true)); err != nil {
		return err
	}
	_, err = p.WriteTo(packet, nil, group4)
	return err
}

func speak6(ctx context.Context, ifi *net.Interface, packet []byte) error {
	c, err := listen(ctx, "udp6")
	if err != nil {
		return err
	}
	defer c.Close()
	p := ipv6.NewPacketConn(c)
	if err := errors.Join(p.SetMulticastInterface(ifi), p.SetMulticastHopLimit(hops), p.SetMulticastLoopback(true)); err != nil {
		return err
	}
	_, err = p.WriteTo(packet, nil, group6)
	return err
}

// listen opens the port that responses must come from (RFC 6762 section 6),
// beside other responders on this machine such as avahi or systemd-resolved.
func listen(ctx context.Context, network string) (net.PacketConn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) { err = share(int(fd)) }); cerr != nil {
			return cerr
		}
		return err
	}}
	return lc.ListenPacket(ctx, network, ":5353")
}

func share(fd int) error {
	return errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
}
