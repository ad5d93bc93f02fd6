package arp

import (
	"math/rand/v2"
	"net/netip"
	"time"
)

const (
	synGap   = 60 * time.Millisecond // the kernel takes 1 s
	mostSYNs = 10
	againGap = time.Second
)

// A probe is a SYN to one host, and what became of it.
type probe struct {
	addr   netip.Addr
	source netip.Addr // of ours
	mac    hwaddr
	seq    uint32 // tells the answers to this probe from all else
	tries  int
	sent   time.Time
	state  state
}

// A state is what is known of a port.
type state int

const (
	unanswered state = iota
	open
	closed
)

// A prober finds out which hosts have an open port, without making a
// connection.
type prober struct {
	tx       *transmitter
	mac      hwaddr
	from, to uint16

	bySeq   map[uint32]*probe
	waiting []*probe // for an answer, in the order they were sent
	silent  []*probe // did not answer as often as they were asked
	most    int      // how often to ask
	tally   tally
}

// reset forgets all probes.
func (q *prober) reset() {
	q.bySeq = make(map[uint32]*probe)
	q.waiting, q.silent, q.most, q.tally = nil, nil, leastTries, tally{}
}

// add begins a probe.
func (q *prober) add(p *probe, now time.Time) error {
	for p.seq = rand.Uint32(); q.bySeq[p.seq] != nil; p.seq = rand.Uint32() {
	}
	q.bySeq[p.seq] = p
	return q.send(p, now)
}

// again begins a probe anew if its port was closed some time ago.
func (q *prober) again(p *probe, now time.Time) error {
	if p.state != closed || now.Sub(p.sent) < againGap {
		return nil
	}
	p.state, p.tries = unanswered, 0
	return q.add(p, now)
}

// send sends a SYN. A host whose answer to an earlier one was lost would repeat
// it once and then not for half a second (Linux: tcp_invalid_ratelimit), so it
// is made to forget first.
func (q *prober) send(p *probe, now time.Time) error {
	if p.tries > 0 {
		if err := q.segment(p, false); err != nil {
			return err
		}
	}
	p.tries++
	p.sent = now
	q.waiting = append(q.waiting, p)
	return q.segment(p, true)
}

// segment sends a SYN, or the RST that takes it back.
func (q *prober) segment(p *probe, syn bool) error {
	frame, err := segment(q.mac, p, q.from, q.to, syn)
	if err != nil {
		return err
	}
	return q.tx.add(frame)
}

// retry repeats what was not answered in time, as often as the loss demands:
// that of the SYNs, or that of the ARP requests if it is worse.
func (q *prober) retry(now time.Time, loss float64) error {
	if most := min(mostSYNs, tries(len(q.bySeq), max(loss, q.tally.loss()))); most > q.most {
		q.most = most
		q.waiting = append(q.waiting, q.silent...)
		q.silent = nil
	}
	for len(q.waiting) > 0 && now.Sub(q.waiting[0].sent) >= synGap {
		p := q.waiting[0]
		q.waiting = q.waiting[1:]
		switch {
		case p.state != unanswered:
		case p.tries >= q.most:
			q.silent = append(q.silent, p)
		default:
			if err := q.send(p, now); err != nil {
				return err
			}
		}
	}
	return nil
}

// judge returns the probe that v is the first answer to, or nil. What is open
// is told that we do not want to connect: the kernel would do so, but a
// firewall that knows of no SYN keeps the answer from it.
func (q *prober) judge(v verdict) (*probe, error) {
	p := q.bySeq[v.seq]
	if p == nil || p.addr != v.addr {
		return nil, nil
	}
	delete(q.bySeq, v.seq)
	q.tally.add(p.tries)
	if !v.open {
		p.state = closed
		return p, nil
	}
	p.state = open
	return p, q.segment(p, false)
}
