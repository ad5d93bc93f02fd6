package arp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	busyTick = 5 * time.Millisecond
	idleTick = 50 * time.Millisecond
	maxMACs  = 4 // that are believed to have one address
)

// sweep finds hosts with raw sockets: one goroutine receives ARP packets, one
// TCP segments, and this one does all else.
func (s *Source) sweep(ctx context.Context, report func(netip.Addr, string)) error {
	if len(s.Interface.HardwareAddr) != len(hwaddr{}) {
		return fmt.Errorf("%w: %q is not an Ethernet interface", ErrNoRawSocket, s.Interface.Name)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	mac := hwaddr(s.Interface.HardwareAddr)
	k, err := openSockets(s.Interface.Index, mac, s.port())
	if err != nil {
		return err
	}
	defer k.close()
	neighbors, verdicts := make(chan neighbor, 1024), make(chan verdict, 1024)
	go func() {
		p := newParser()
		receive(k.arp, func(frame []byte) {
			if n, ok := p.neighbor(frame); ok {
				send(ctx, neighbors, n)
			}
		})
	}()
	go func() {
		p := newParser()
		receive(k.tcp, func(frame []byte) {
			if v, ok := p.verdict(frame); ok {
				send(ctx, verdicts, v)
			}
		})
	}()
	return newSweep(s, k, mac, report).run(ctx, neighbors, verdicts)
}

func send[T any](ctx context.Context, to chan<- T, v T) {
	select {
	case to <- v:
	case <-ctx.Done():
	}
}

// sockets are what one sweep needs of the kernel.
type sockets struct {
	tx, arp, tcp, held *os.File
	port               uint16 // that SYNs come from
}

func openSockets(ifindex int, mac hwaddr, to uint16) (_ *sockets, err error) {
	k := new(sockets)
	defer func() {
		if err != nil {
			k.close()
		}
	}()
	if k.held, k.port, err = holdPort(); err != nil {
		return nil, err
	}
	if k.tx, err = packetSocket(ifindex, 0, nil); err != nil {
		return nil, err
	}
	if k.arp, err = packetSocket(ifindex, unix.ETH_P_ARP, heard(mac)); err != nil {
		return nil, err
	}
	k.tcp, err = packetSocket(ifindex, unix.ETH_P_IP, answered(to, k.port))
	return k, err
}

// close closes the sockets in the background: the kernel takes 30 ms for each.
func (k *sockets) close() {
	for _, f := range []*os.File{k.tx, k.arp, k.tcp, k.held} {
		go f.Close() // a nil file only returns an error
	}
}

// A sweep is the state of one Find.
type sweep struct {
	source *Source
	report func(netip.Addr, string)
	mac    hwaddr
	rate   int
	gap    time.Duration
	tx     *transmitter
	prober *prober

	// The rest begins anew with each sweep of all targets.
	began    time.Time
	refused  error // networks that are too large
	targets  []target
	index    map[netip.Addr]int      // into targets
	requests map[netip.Addr][]byte   // the ARP request of each address of ours
	hosts    map[netip.Addr][]*probe // those who answered
	tally    tally

	asking  bool
	round   int
	roundAt time.Time
	next    int       // the target to ask next
	asked   int       // requests in this round
	last    time.Time // when the last request was sent
}

// raw reports whether a sweep will have raw sockets.
func (s *Source) raw() bool {
	if len(s.Interface.HardwareAddr) != len(hwaddr{}) {
		return false
	}
	f, err := packetSocket(s.Interface.Index, 0, nil)
	go f.Close() // a nil file only returns an error
	return err == nil
}

func newSweep(s *Source, k *sockets, mac hwaddr, report func(netip.Addr, string)) *sweep {
	w := &sweep{source: s, report: report, mac: mac}
	w.rate, w.gap = s.pace()
	w.tx = &transmitter{socket: k.tx, ring: newRing()}
	w.prober = &prober{tx: w.tx, mac: mac, from: k.port, to: s.port()}
	return w
}

// run sweeps until there is nothing more to expect or ctx is done.
func (w *sweep) run(ctx context.Context, neighbors <-chan neighbor, verdicts <-chan verdict) error {
	ticker := time.NewTicker(busyTick)
	defer ticker.Stop()
	busy := true
	done, err := w.step(time.Now())
	for !done && err == nil {
		if busy != w.busy() {
			busy = w.busy()
			ticker.Reset(tick(busy))
		}
		select {
		case <-ctx.Done():
			return errors.Join(w.refused, w.source.unasked(ctx, w.unasked()))
		case n := <-neighbors:
			err = w.hear(n, time.Now())
		case v := <-verdicts:
			err = w.judge(v)
		case <-ticker.C:
			done, err = w.step(time.Now())
			continue
		}
		if err == nil && len(neighbors) == 0 && len(verdicts) == 0 {
			err = w.tx.flush()
		}
	}
	return errors.Join(w.refused, err)
}

// unasked is how many addresses were never asked.
func (w *sweep) unasked() int {
	if w.round > 1 {
		return 0
	}
	return len(w.targets) - w.next
}

func tick(busy bool) time.Duration {
	if busy {
		return busyTick
	}
	return idleTick
}

func (w *sweep) busy() bool { return w.asking || len(w.prober.waiting) > 0 }

// step does what is due, and reports whether the sweep is over.
func (w *sweep) step(now time.Time) (done bool, err error) {
	every := w.source.Every
	if w.began.IsZero() || every > 0 && !w.asking && now.Sub(w.began) >= every {
		if err := w.begin(now); err != nil {
			return true, err
		}
	}
	err = errors.Join(w.ask(now), w.prober.retry(now, w.tally.loss()), w.tx.flush())
	if every > 0 {
		if errors.Is(err, unix.ENETDOWN) { // a cable is out; the next sweep may find it in again
			err = nil
		}
		return false, err
	}
	return !w.busy() && now.Sub(w.last) >= w.source.linger(), err
}

// begin starts a sweep of the targets as they are now.
func (w *sweep) begin(now time.Time) error {
	targets, err := w.source.targets(maxTargets)
	if err != nil && !errors.Is(err, ErrTooLarge) {
		return err
	}
	w.refused, w.targets, w.began = err, targets, now
	w.index = make(map[netip.Addr]int, len(targets))
	w.requests = make(map[netip.Addr][]byte)
	for i, t := range targets {
		w.index[t.addr] = i
		if w.requests[t.source] != nil {
			continue
		}
		if w.requests[t.source], err = request(w.mac, t.source); err != nil {
			return fmt.Errorf("ARP request from %s: %w", t.source, err)
		}
	}
	w.hosts = make(map[netip.Addr][]*probe)
	w.prober.reset()
	w.tally, w.round = tally{}, 0
	w.asking, w.next = len(targets) > 0, len(targets)
	return nil
}

// ask sends the requests that are due.
func (w *sweep) ask(now time.Time) error {
	if !w.asking {
		return nil
	}
	if w.next == len(w.targets) && !w.nextRound(now) {
		return nil
	}
	w.last = now
	due := batch + int(now.Sub(w.roundAt).Seconds()*float64(w.rate))
	for ; w.next < len(w.targets) && w.asked < due; w.next++ {
		t := w.targets[w.next]
		if len(w.hosts[t.addr]) > 0 {
			continue
		}
		frame := w.requests[t.source]
		setTarget(frame, t.addr)
		if err := w.tx.add(frame); err != nil {
			return err
		}
		w.asked++
	}
	return nil
}

// nextRound reports whether it is time for another round, and ends asking if
// there is to be none.
func (w *sweep) nextRound(now time.Time) bool {
	if w.round > 0 && now.Sub(w.last) < w.gap {
		return false
	}
	if w.round >= w.tally.tries() {
		w.asking = false
		return false
	}
	w.round++
	w.next, w.asked, w.roundAt = 0, 0, now
	return true
}

// hear probes a host that answered, asked or announced. A host that came up a
// moment ago may have refused because its SSH server was not there yet.
func (w *sweep) hear(n neighbor, now time.Time) error {
	i, ok := w.index[n.addr]
	if !ok || n.mac == w.mac {
		return nil
	}
	known := w.hosts[n.addr]
	for _, p := range known {
		if p.mac == n.mac {
			return w.prober.again(p, now)
		}
	}
	if len(known) == maxMACs {
		return nil
	}
	if len(known) == 0 && n.reply && w.asking {
		w.tally.add(w.round)
	}
	p := &probe{addr: n.addr, source: w.targets[i].source, mac: n.mac}
	w.hosts[n.addr] = append(known, p)
	return w.prober.add(p, now)
}

// judge reports the host that a verdict finds open.
func (w *sweep) judge(v verdict) error {
	p, err := w.prober.judge(v)
	if p == nil || !v.open {
		return err
	}
	_ = enter(w.source.Interface.Index, p.addr, p.mac) // if it is not allowed, the kernel asks again itself
	w.report(p.addr, p.mac.String())
	return err
}
