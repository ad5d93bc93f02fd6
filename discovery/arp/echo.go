package arp

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv6"
	"golang.org/x/sync/errgroup"
)

const (
	echoGap      = 100 * time.Millisecond
	maxNeighbors = 4096 // on one link
	maxDials     = 64   // at a time
)

// find6 finds IPv6 neighbours, which needs no privilege where
// net.ipv4.ping_group_range allows it, as it does on NixOS.
func (s *Source) find6(ctx context.Context, report func(netip.Addr, string)) error {
	return s.repeat(ctx, func() error { return s.neighbors6(ctx, report) })
}

// neighbors6 asks all nodes for an echo and reports those with an open SSH
// port. A link without IPv6 and a kernel that does not let us ask are no error.
func (s *Source) neighbors6(ctx context.Context, report func(netip.Addr, string)) error {
	e, err := listenEcho(s.Interface)
	if err != nil {
		return nil
	}
	var dials errgroup.Group
	dials.SetLimit(maxDials)
	e.ask(ctx, s.linger(), func(a netip.Addr) {
		dials.Go(func() error {
			addr := netip.AddrPortFrom(a.WithZone(s.Interface.Name), s.port())
			if dial(ctx, addr, redials) == nil {
				mac, _ := Neighbor(s.Interface.Index, a)
				report(addr.Addr(), mac)
			}
			return nil
		})
	})
	return dials.Wait()
}

// An echo is a socket that can ask all nodes of a link (RFC 4291 section 2.7.1,
// RFC 4443 section 4).
type echo struct {
	conn  *icmp.PacketConn
	to    net.Addr
	nonce []byte // tells the answers to us from others

	mu    sync.Mutex
	round int
	tally tally
}

func listenEcho(iface *net.Interface) (*echo, error) {
	e := &echo{nonce: make([]byte, 16)}
	rand.Read(e.nonce)
	all := net.IPv6linklocalallnodes
	var err error
	if e.conn, err = icmp.ListenPacket("udp6", "::"); err == nil {
		e.to = &net.UDPAddr{IP: all, Zone: iface.Name}
	} else if e.conn, err = icmp.ListenPacket("ip6:ipv6-icmp", "::"); err == nil {
		e.to = &net.IPAddr{IP: all, Zone: iface.Name}
	} else {
		return nil, err
	}
	c := e.conn.IPv6PacketConn()
	if err := errors.Join(c.SetMulticastInterface(iface), c.SetMulticastHopLimit(255), c.SetMulticastLoopback(false)); err != nil {
		e.conn.Close()
		return nil, err
	}
	return e, nil
}

// ask sends requests, as many as the loss demands, calls found for each
// link-local address that answers, and returns wait after the last request.
func (e *echo) ask(ctx context.Context, wait time.Duration, found func(netip.Addr)) {
	received := make(chan struct{})
	go func() {
		defer close(received)
		e.receive(found)
	}()
	defer func() { <-received }()
	defer e.conn.Close()
	for e.next() {
		if !e.send() || !sleep(ctx, echoGap) {
			return
		}
	}
	sleep(ctx, wait-echoGap)
}

// next begins a round, unless there were enough.
func (e *echo) next() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.round++
	return e.round <= e.tally.tries()
}

func (e *echo) send() bool {
	m := icmp.Message{Type: ipv6.ICMPTypeEchoRequest, Body: &icmp.Echo{ID: os.Getpid() & 0xffff, Seq: 1, Data: e.nonce}}
	b, err := m.Marshal(nil) // the kernel fills in the checksum
	if err != nil {
		return false
	}
	_, err = e.conn.WriteTo(b, e.to)
	return err == nil
}

func (e *echo) receive(found func(netip.Addr)) {
	seen := make(map[netip.Addr]bool)
	buf := make([]byte, 256)
	for len(seen) < maxNeighbors {
		n, from, err := e.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		a, ok := sender(from)
		if !ok || seen[a] || !isReply(buf[:n], e.nonce) {
			continue
		}
		seen[a] = true
		e.mu.Lock()
		e.tally.add(e.round)
		e.mu.Unlock()
		found(a)
	}
}

// sender returns a link-local sender, without its zone.
func sender(from net.Addr) (netip.Addr, bool) {
	var ip net.IP
	switch f := from.(type) {
	case *net.UDPAddr:
		ip = f.IP
	case *net.IPAddr:
		ip = f.IP
	}
	a, ok := netip.AddrFromSlice(ip)
	return a, ok && a.Is6() && a.IsLinkLocalUnicast()
}

// isReply reports whether b is an echo reply that carries nonce.
func isReply(b, nonce []byte) bool {
	const protocol = 58 // ICMPv6
	m, err := icmp.ParseMessage(protocol, b)
	if err != nil || m.Type != ipv6.ICMPTypeEchoReply {
		return false
	}
	e, ok := m.Body.(*icmp.Echo)
	return ok && bytes.Equal(e.Data, nonce)
}

// sleep reports whether ctx was still good after d.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(max(d, 0))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
