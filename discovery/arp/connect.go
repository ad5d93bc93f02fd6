package arp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Without raw sockets each address that nobody has makes an entry in the
// kernel's neighbour table for 3 s. So much at a time, and so far apart, that
// the table does not overflow.
const (
	chunk    = 400
	chunkGap = 1600 * time.Millisecond

	dialLimit  = 400 * time.Millisecond
	redials    = 3 // together longer than the second after which the kernel repeats ARP requests
	mostSweeps = 5
)

// connect sweeps by TCP connects. Those whom the kernel knows as neighbours
// come first, and are all that is tried of a network with too many addresses.
func (s *Source) connect(ctx context.Context, report func(netip.Addr, string)) error {
	todo, err := s.connectTargets()
	var t tally
	times, unasked := 1, len(todo)
	for try := 1; len(todo) > 0 && ctx.Err() == nil && try <= min(mostSweeps, t.tries()); try++ {
		var tried int
		todo, tried = s.dialAll(ctx, todo, times, report)
		for range tried - len(todo) {
			t.add(try)
		}
		if try == 1 {
			unasked -= tried
		}
		times = redials
	}
	return errors.Join(err, s.unasked(ctx, unasked))
}

// connectTargets lists the addresses to try.
func (s *Source) connectTargets() ([]netip.Addr, error) {
	known := neighbors(s.Interface.Index)
	list, err := s.targets(maxConnect)
	if errors.Is(err, ErrTooLarge) {
		for a := range known {
			if s.covers(a) {
				list = append(list, target{addr: a})
			}
		}
		list = unique(list)
	}
	todo := make([]netip.Addr, 0, len(list))
	for _, now := range []bool{true, false} {
		for _, t := range list {
			if _, ok := known[t.addr]; ok == now {
				todo = append(todo, t.addr)
			}
		}
	}
	return todo, err
}

func (s *Source) covers(a netip.Addr) bool {
	return a.Is4() && (s.Prefixes == nil ||
		slices.ContainsFunc(s.Prefixes, func(p netip.Prefix) bool { return p.Contains(a) }))
}

// dialAll tries each address, unless ctx ends before, and reports those that can
// be connected to. It returns those that did not answer at all, and how many it
// tried.
func (s *Source) dialAll(ctx context.Context, todo []netip.Addr, times int, report func(netip.Addr, string)) (silent []netip.Addr, tried int) {
	var (
		wg sync.WaitGroup
		mu sync.Mutex
	)
	for part := range slices.Chunk(todo, chunk) {
		if &part[0] != &todo[0] && !sleep(ctx, chunkGap) {
			break
		}
		tried += len(part)
		for _, a := range part {
			wg.Go(func() {
				switch err := dial(ctx, netip.AddrPortFrom(a, s.port()), times); {
				case err == nil:
					mac, _ := Neighbor(s.Interface.Index, a)
					report(a, mac)
				case errors.Is(err, syscall.ECONNREFUSED):
				default:
					mu.Lock()
					defer mu.Unlock()
					silent = append(silent, a)
				}
			})
		}
	}
	wg.Wait()
	return silent, tried
}

// dial reports by a nil error that addr takes connections. It tries some times,
// because the kernel repeats a lost SYN after 1 s only, and leaves at once.
func dial(ctx context.Context, addr netip.AddrPort, times int) (err error) {
	d := net.Dialer{Timeout: dialLimit}
	for range times {
		var c net.Conn
		if c, err = d.DialContext(ctx, "tcp", addr.String()); err == nil {
			return c.Close()
		}
		if errors.Is(err, syscall.ECONNREFUSED) || ctx.Err() != nil {
			break
		}
	}
	return err
}
