package mdns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// The groups and the port of multicast DNS (RFC 6762 section 3).
var (
	group4 = &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: 5353}
	group6 = &net.UDPAddr{IP: net.ParseIP("ff02::fb"), Port: 5353}
)

// retry is how long a listener rests after the network failed under it.
const retry = 100 * time.Millisecond

// A listener is a member of the group on one link, over one address family, on
// the port that all of multicast DNS is on: others of this machine may share it.
type listener struct {
	net.PacketConn
	ifi   *net.Interface
	link  link
	read  func(b []byte) (arrival, error)
	write func(b []byte) error
}

// An arrival is a packet's size and way.
type arrival struct {
	n    int
	link int
	from net.Addr
	to   net.IP
}

func listen4(ctx context.Context, ifi *net.Interface) (*listener, error) {
	conn, err := listenPort(ctx, "udp4")
	if err != nil {
		return nil, err
	}
	p := ipv4.NewPacketConn(conn)
	err = errors.Join(p.JoinGroup(ifi, group4), p.SetMulticastInterface(ifi), p.SetMulticastTTL(255),
		p.SetControlMessage(ipv4.FlagInterface|ipv4.FlagDst, true))
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("join %v: %w", group4.IP, err)
	}
	read := func(b []byte) (arrival, error) {
		n, cm, from, err := p.ReadFrom(b)
		if cm == nil {
			cm = new(ipv4.ControlMessage)
		}
		return arrival{n, cm.IfIndex, from, cm.Dst}, err
	}
	write := func(b []byte) error { _, err := p.WriteTo(b, nil, group4); return err }
	return &listener{conn, ifi, link{ifi: ifi}, read, write}, nil
}

func listen6(ctx context.Context, ifi *net.Interface) (*listener, error) {
	conn, err := listenPort(ctx, "udp6")
	if err != nil {
		return nil, err
	}
	p := ipv6.NewPacketConn(conn)
	err = errors.Join(p.JoinGroup(ifi, group6), p.SetMulticastInterface(ifi), p.SetMulticastHopLimit(255),
		p.SetControlMessage(ipv6.FlagInterface|ipv6.FlagDst, true))
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("join %v: %w", group6.IP, err)
	}
	read := func(b []byte) (arrival, error) {
		n, cm, from, err := p.ReadFrom(b)
		if cm == nil {
			cm = new(ipv6.ControlMessage)
		}
		return arrival{n, cm.IfIndex, from, cm.Dst}, err
	}
	write := func(b []byte) error { _, err := p.WriteTo(b, nil, group6); return err }
	return &listener{conn, ifi, link{ifi: ifi}, read, write}, nil
}

// listenPort opens the port beside others such as avahi or mDNSResponder.
func listenPort(ctx context.Context, network string) (net.PacketConn, error) {
	lc := net.ListenConfig{Control: func(network, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) { err = share(int(fd), network) }); cerr != nil {
			return cerr
		}
		return err
	}}
	return lc.ListenPacket(ctx, network, ":5353")
}

// run passes on what is heard until l is closed.
func (l *listener) run(ctx context.Context, heard chan<- *dns.Msg) {
	buf := make([]byte, maxMessage+1)
	for ctx.Err() == nil {
		a, err := l.read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			rest(ctx, retry)
			continue
		}
		m, err := parse(buf[:a.n])
		if err != nil || !l.local(a) {
			continue
		}
		select {
		case heard <- m:
		case <-ctx.Done():
		}
	}
}

// rest waits for d or until ctx is done.
func rest(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// local reports whether a packet comes from this link. What is sent to the group
// always does, whatever address it is from; what is sent to this machine alone
// must come from a neighbour (RFC 6762 section 11).
func (l *listener) local(a arrival) bool {
	return a.link == l.ifi.Index && (a.to.IsMulticast() || l.near(a.from))
}

// near reports whether from is an address on the link.
func (l *listener) near(from net.Addr) bool {
	udp, ok := from.(*net.UDPAddr)
	return ok && l.link.near(udp.AddrPort().Addr())
}

// ask sends questions to everybody.
func (l *listener) ask(questions []dns.Question) error {
	m := &dns.Msg{Question: questions, Compress: true}
	packet, err := m.Pack()
	if err != nil {
		return fmt.Errorf("pack questions: %w", err)
	}
	if err := l.write(packet); err != nil {
		return fmt.Errorf("ask on %q: %w", l.ifi.Name, err)
	}
	return nil
}
