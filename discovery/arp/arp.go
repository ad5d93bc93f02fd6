// Package arp finds machines with an SSH server on the link of one interface.
//
// Every IPv4 address of the interface's networks is asked by ARP (RFC 826). A
// host that answers gets a TCP SYN in a frame of our own making, and one that
// answers that too is reported, all without waiting for the others. No
// connection is made: the kernel's neighbour table, which holds 1,024 entries,
// stays out of it, a lost SYN is repeated after 60 ms and not after 1 s, and
// sshd neither logs nor penalises anything. IPv6 neighbours are found by one
// echo request to all nodes.
//
// Requests are repeated in rounds, as many as the measured loss asks for. Of a
// /24 with 88 hosts every open port was found within 0.1 s without loss, 0.2 s
// at a loss of 5 % in each direction, and 0.4 s at 20 %.
//
// Frames need CAP_NET_RAW and Linux. Without them a [Source] falls back to TCP
// connects and the kernel's neighbour table.
package arp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/nixctl/nixctl/discovery"
)

// ErrNoRawSocket is what [Source.Fallback] is told when the kernel gives no
// packet socket.
var ErrNoRawSocket = errors.New("no raw socket")

const (
	sshPort = 22
	linger  = time.Second // a client asleep on Wi-Fi answers late
)

// A Source sweeps one interface. Its fields may not be changed while Find runs.
type Source struct {
	// Interface is the one to sweep.
	Interface *net.Interface

	// Prefixes are the IPv4 networks to sweep, 65,536 addresses in all at most.
	// If nil, these are the networks of the interface, but none larger than
	// /20, and not 169.254.0.0/16: who has such an address is found by IPv6.
	Prefixes []netip.Prefix

	// Port is that of the SSH servers. If 0, it is 22.
	Port uint16

	// Rate is the number of ARP requests a second. If 0, it is 10,000, or 1,000
	// on Wi-Fi, where a broadcast takes as long as 50 other frames.
	Rate int

	// Every is the time from one sweep to the next. Between sweeps, hosts that
	// are heard asking or announcing by ARP are probed at once. If 0, Find
	// sweeps once and returns.
	Every time.Duration

	// Linger is how long a single sweep waits for late answers after its last
	// request. Nothing that was found waits for it. If 0, it is 1 s.
	Linger time.Duration

	// Fallback, unless nil, is called once by Find if it does without raw
	// sockets. The error wraps [ErrNoRawSocket]; [CapabilityHint] says what
	// helps.
	Fallback func(err error)
}

var _ discovery.Source = (*Source)(nil)

func (s *Source) String() string {
	if s.Interface == nil {
		return "arp"
	}
	return "arp/" + s.Interface.Name
}

// Find implements [discovery.Source]. Candidates have an open SSH port and,
// nearly always, a MAC address. Two machines that claim one address are two
// candidates.
//
// A network that is too large makes an error that wraps [ErrTooLarge]; what is
// not too large is swept all the same, unless it was named in Prefixes. If the
// deadline of ctx comes before a single sweep has asked every IPv4 address once,
// the error is an [*UnaskedError].
func (s *Source) Find(ctx context.Context, found func(discovery.Candidate)) error {
	if s.Interface == nil {
		return errors.New("no interface to sweep")
	}
	if _, err := s.targets(maxTargets); s.Prefixes != nil && err != nil {
		return err
	}
	var (
		wg         sync.WaitGroup
		mu         sync.Mutex
		err4, err6 error
	)
	report := func(addr netip.Addr, mac string) {
		mu.Lock()
		defer mu.Unlock()
		if ctx.Err() == nil {
			found(discovery.Candidate{
				Addr: netip.AddrPortFrom(addr, s.port()), Route: discovery.LAN, MAC: mac, Source: "arp",
			})
		}
	}
	wg.Go(func() { err4 = s.find4(ctx, report) })
	wg.Go(func() { err6 = s.find6(ctx, report) })
	wg.Wait()
	return errors.Join(err4, err6)
}

// find4 sweeps with raw sockets, or without if there are none.
func (s *Source) find4(ctx context.Context, report func(netip.Addr, string)) error {
	err := s.sweep(ctx, report)
	if !errors.Is(err, ErrNoRawSocket) {
		return err
	}
	if s.Fallback != nil {
		s.Fallback(err)
	}
	return s.repeat(ctx, func() error { return s.connect(ctx, report) })
}

// repeat calls once, or again and again as s.Every says.
func (s *Source) repeat(ctx context.Context, once func() error) error {
	if s.Every == 0 {
		return once()
	}
	tick := time.NewTicker(s.Every)
	defer tick.Stop()
	for {
		err := once()
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

func (s *Source) port() uint16 {
	if s.Port == 0 {
		return sshPort
	}
	return s.Port
}

func (s *Source) linger() time.Duration {
	if s.Linger == 0 {
		return linger
	}
	return s.Linger
}

// CapabilityHint tells a user what to do so that the program at the path
// executable may open raw sockets: a sentence or a command line.
func CapabilityHint(executable string) string {
	switch {
	case runtime.GOOS != "linux":
		return "ARP sweeps are for Linux; if nothing is found, allow this terminal under " +
			"System Settings, Privacy & Security, Local Network, or run with sudo"
	case strings.HasPrefix(executable, "/nix/store/"):
		return `run with sudo, or add to the NixOS configuration: security.wrappers.nixctl = ` +
			`{ owner = "root"; group = "root"; capabilities = "cap_net_raw,cap_net_admin+ep"; source = "` + executable + `"; };`
	}
	quoted := "'" + strings.ReplaceAll(executable, "'", `'\''`) + "'"
	if !strings.ContainsFunc(executable, func(r rune) bool { return !strings.ContainsRune(plain, r) }) {
		quoted = executable
	}
	return fmt.Sprintf("sudo setcap cap_net_raw,cap_net_admin+ep %s", quoted)
}

// plain are the characters that a shell leaves alone.
const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+,@%"
