// Package survey finds out which machines are there: it runs the discovery sources,
// has every candidate prove its host key as soon as it is reported, and puts the
// addresses of one machine together.
//
// Two addresses belong to one machine if both proved the same key and share a MAC
// address of the link layer. Where the link layer told only one of the MACs, or
// none, the machine id or MAC of the claims decides between addresses with the same
// proved key. Claims alone never join two machines: one ISO on many machines means
// one key on many rows, and a forged claim must not make two of them look like one.
package survey

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/nixctl/nixctl/discovery"
	"github.com/nixctl/nixctl/discovery/beacon"
	"github.com/nixctl/nixctl/discovery/verify"
	"golang.org/x/crypto/ssh"
)

const (
	retryAfter = 2 * time.Second  // an address that failed is tried again when seen again; OpenSSH 9.8 penalises more than one a second
	mostMisses = 2                // in a row, and a machine is not there any more: one may be a lost packet
	grace      = 11 * time.Second // for the checks after Survey.Timeout: one that begins then may take its 10 s
	maxSeen    = 1 << 17          // addresses that are remembered; more than a /16 of them is an attack
)

// ErrUnchecked is wrapped by the error of [Survey.Run] if there were candidates
// that could not be checked in time.
var ErrUnchecked = errors.New("not checked before the time was over")

// A Machine is what the survey knows of one machine. It is a copy: it does not
// change.
type Machine struct {
	ID        int               // tells the machines of one survey apart
	Installer *verify.Installer // the proved machine at its best address; nil if not verified
	Key       ssh.PublicKey     // the host key it proved
	Addresses []netip.AddrPort  // the best first: IPv4, global IPv6, link-local IPv6
	MAC       string            // of the link layer; empty if it is not known
	Claim     beacon.Claim      // what it says about itself
	Via       []string          // the sources that reported it
	RTT       time.Duration     // of opening a TCP connection; 0 if not verified
	First     time.Time
	Seen      time.Time
	Pending   bool // another address that seems to be its own is being checked
	Gone      bool // it said goodbye, was not seen for Survey.Expire, or has no address left where its key is proved
}

// Verified reports whether the machine proved the key of a known identity.
func (m Machine) Verified() bool { return m.Installer != nil }

// A Survey looks for machines.
type Survey struct {
	Sources  []discovery.Source
	Verifier *verify.Verifier
	Timeout  time.Duration // for the sources, and 11 s later for the checks; 0 means until they are done
	Expire   time.Duration // after which a machine that is not seen is gone; 0 means never

	// Recheck is the age of a proof at which an address that is seen again proves
	// its key again. If it does not, the machine is not verified any more, and if
	// the next check fails too it is gone. If 0, it is half of Expire; if that is 0
	// too, a proof is for good.
	Recheck time.Duration

	// Neighbor tells the MAC address behind an address that was just talked to. If
	// nil, only what sources report is known.
	Neighbor func(netip.Addr) (mac string, ok bool)
}

// Run calls update, one call at a time, for each machine that is found and each
// time that something about it changes, until the sources are done and every
// candidate has been checked or the time for it is over, which makes an error that
// wraps [ErrUnchecked]. Errors of sources are joined; what was found stays found.
func (s *Survey) Run(ctx context.Context, update func(Machine)) error {
	r := &run{Survey: s, update: update,
		sightings: make(map[netip.AddrPort]*sighting), queue: queue{lanes: make(map[string]*lane)},
		candidates: make(chan discovery.Candidate, parallel), verdicts: make(chan verdict, parallel)}
	sctx, cctx := ctx, ctx // of the sources, of the checks
	if s.Timeout > 0 {
		var cancel context.CancelFunc
		sctx, cancel = context.WithTimeout(ctx, s.Timeout)
		defer cancel()
		cctx, cancel = context.WithTimeout(ctx, s.Timeout+grace)
		defer cancel()
	}
	done := make(chan error, 1)
	go func() {
		err := discovery.Find(sctx, s.Sources, func(c discovery.Candidate) {
			select {
			case r.candidates <- c:
			case <-sctx.Done():
			}
		})
		close(r.candidates)
		done <- err
	}()
	r.loop(cctx)
	err := <-done
	if r.unchecked > 0 && ctx.Err() == nil {
		err = errors.Join(err, fmt.Errorf("%d candidates were %w", r.unchecked, ErrUnchecked))
	}
	return err
}

// A run is one call of Run. Its fields belong to the goroutine of loop.
type run struct {
	*Survey
	update     func(Machine)
	sightings  map[netip.AddrPort]*sighting
	machines   int
	checking   int // checks that run or wait
	unchecked  int // those that time ran out for
	queue      queue
	candidates chan discovery.Candidate
	verdicts   chan verdict
}

type verdict struct {
	candidate discovery.Candidate
	installer *verify.Installer
	key       ssh.PublicKey
	mac       string
	late      bool // there was no time: it tells nothing about the candidate
}

func (r *run) loop(ctx context.Context) {
	var expire <-chan time.Time
	if r.Expire > 0 {
		t := time.NewTicker(r.Expire / 4)
		defer t.Stop()
		expire = t.C
	}
	for candidates := r.candidates; candidates != nil || r.checking > 0; {
		select {
		case c, ok := <-candidates:
			if !ok {
				candidates = nil
				continue
			}
			r.see(c)
		case v := <-r.verdicts:
			r.judge(v)
		case now := <-expire:
			r.forget(func(s *sighting) bool { return now.Sub(s.seen) > r.Expire })
		}
		for c, ok := r.queue.next(); ok; c, ok = r.queue.next() {
			go func() { r.verdicts <- r.check(ctx, c) }()
		}
	}
}

// see takes in what a source reports.
func (r *run) see(c discovery.Candidate) {
	s := r.sightings[c.Addr]
	if c.Gone {
		// A goodbye is a claim like any other: only its own source forgets for it.
		r.forget(func(s *sighting) bool { return s.addr == c.Addr && len(s.via) == 1 && s.via[0] == c.Source })
		return
	}
	if s == nil {
		if len(r.sightings) >= maxSeen {
			return
		}
		s = &sighting{addr: c.Addr, first: time.Now()}
		r.sightings[c.Addr] = s
	}
	s.seen = time.Now()
	changed := s.merge(c)
	moved := c.MAC != "" && s.mac != "" && c.MAC != s.mac
	if r.due(s, moved) {
		s.checking = true
		r.checking++
		r.queue.add(c)
		return
	}
	if s.key != nil && (changed || r.Expire > 0) {
		r.tell(s)
	}
}

// due reports whether s, which was just seen, is to be checked; moved says that it
// was seen with another MAC.
func (r *run) due(s *sighting, moved bool) bool {
	recheck := r.Recheck
	if recheck == 0 {
		recheck = r.Expire / 2
	}
	switch age := time.Since(s.tried); {
	case s.checking:
		return false
	case s.tried.IsZero():
		return true
	case moved, s.key == nil, s.misses > 0:
		return age >= retryAfter
	default:
		return recheck > 0 && age >= max(recheck, retryAfter)
	}
}

// check has c prove its key.
func (r *run) check(ctx context.Context, c discovery.Candidate) verdict {
	v := verdict{candidate: c, mac: c.MAC}
	var err error
	v.installer, err = r.Verifier.Verify(ctx, c)
	var other *verify.UnknownKeyError
	switch {
	case v.installer != nil:
		v.key = v.installer.Key()
	case errors.As(err, &other):
		v.key = other.Key
	default:
		v.late = ctx.Err() != nil
		return v
	}
	if r.Neighbor != nil && c.Route == discovery.LAN {
		if mac, ok := r.Neighbor(c.Addr.Addr()); ok {
			v.mac = mac
		}
	}
	return v
}

// judge takes in the outcome of check.
func (r *run) judge(v verdict) {
	r.checking--
	r.queue.done(v.candidate)
	s := r.sightings[v.candidate.Addr]
	if s == nil {
		return // forgotten in the meantime
	}
	s.checking, s.tried = false, time.Now()
	switch {
	case v.late:
		r.unchecked++
	case v.key != nil:
		r.prove(s, v)
	case s.key != nil:
		r.miss(s)
	}
}

// prove takes in the key that s proved.
func (r *run) prove(s *sighting, v verdict) {
	if s.key != nil && !sameKey(s.key, v.key) || v.mac != "" && s.mac != "" && v.mac != s.mac {
		r.leave(s) // somebody else answers here now
	}
	if v.mac != "" {
		s.mac = v.mac
	}
	s.key, s.installer, s.misses = v.key, v.installer, 0
	r.tell(s)
}

// miss takes in that s did not prove its key again.
func (r *run) miss(s *sighting) {
	s.installer = nil
	if s.misses++; s.misses < mostMisses {
		r.tell(s)
		return
	}
	r.leave(s)
	s.key, s.misses = nil, 0 // not an SSH server any more
}

// leave takes s from its machine and reports what is left of that.
func (r *run) leave(s *sighting) {
	id, last := s.machine, s.view()
	if s.machine = 0; id == 0 {
		return
	}
	m := r.machine(id)
	if len(m.Addresses) == 0 {
		m = last
		m.Gone = true
	}
	r.update(m)
}

// tell joins s with the machine it belongs to and reports that machine.
func (r *run) tell(s *sighting) {
	if s.machine == 0 {
		for _, o := range r.sightings {
			if o != s && o.machine != 0 && s.sameMachine(o) {
				s.machine = o.machine
				break
			}
		}
	}
	if s.machine == 0 {
		r.machines++
		s.machine = r.machines
	}
	r.update(r.machine(s.machine))
}

// forget drops the sightings that drop picks and reports what that changes.
func (r *run) forget(drop func(*sighting) bool) {
	for addr, s := range r.sightings {
		if s.checking || !drop(s) {
			continue
		}
		delete(r.sightings, addr)
		r.leave(s)
	}
}

// machine puts together what is known of machine id.
func (r *run) machine(id int) Machine {
	var parts []*sighting
	for _, s := range r.sightings {
		if s.machine == id {
			parts = append(parts, s)
		}
	}
	slices.SortFunc(parts, func(a, b *sighting) int { return better(a.addr, b.addr) })
	m := Machine{ID: id}
	for _, s := range parts {
		m = m.with(s.view())
	}
	for _, s := range r.sightings {
		m.Pending = m.Pending || s.checking && s.machine != id && (s.mac != "" && s.mac == m.MAC || s.claim.ID != "" && s.claim.ID == m.Claim.ID)
	}
	return m
}

// with adds what o knows to m; what m knows already stays.
func (m Machine) with(o Machine) Machine {
	if len(m.Addresses) == 0 {
		return o
	}
	m.Addresses = append(m.Addresses, o.Addresses...)
	if m.Installer == nil {
		m.Installer, m.RTT = o.Installer, o.RTT
	}
	if m.MAC == "" {
		m.MAC = o.MAC
	}
	if m.Claim == (beacon.Claim{}) {
		m.Claim = o.Claim
	}
	for _, v := range o.Via {
		if !slices.Contains(m.Via, v) {
			m.Via = append(m.Via, v)
		}
	}
	slices.Sort(m.Via)
	if o.First.Before(m.First) {
		m.First = o.First
	}
	if o.Seen.After(m.Seen) {
		m.Seen = o.Seen
	}
	return m
}

// better orders addresses by how likely they are to keep working: IPv4 before
// global IPv6 before link-local IPv6.
func better(a, b netip.AddrPort) int {
	rank := func(p netip.AddrPort) int {
		switch ip := p.Addr(); {
		case ip.Unmap().Is4():
			return 0
		case !ip.IsLinkLocalUnicast():
			return 1
		default:
			return 2
		}
	}
	if d := rank(a) - rank(b); d != 0 {
		return d
	}
	return strings.Compare(a.String(), b.String())
}
