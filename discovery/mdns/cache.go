package mdns

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/nixctl/nixctl/discovery"
	"github.com/nixctl/nixctl/discovery/beacon"
)

const serviceName = beacon.Service + ".local."

// Bounds on what is remembered of a link. A stranger can fill them, and then hide
// installers that are not in the cache yet, but no more.
const (
	maxInstances = 1024
	maxAddresses = 16   // of one machine
	maxLost      = 1024 // goodbyes
	maxQuestions = 16   // follow-ups in one packet
	maxLife      = time.Hour
)

// flushed is how old a record must be to be dropped by one with the cache-flush
// bit: a machine may tell its addresses in several packets (RFC 6762 section 10.2).
const flushed = time.Second

// again is how long after a report an address that is heard again is reported
// again. One question brings several answers; the next one comes after [pause].
const again = pause / 2

// flushBit is the cache-flush bit in a record's class.
const flushBit = 1 << 15

// A cache puts records together. Names in it are canonical.
type cache struct {
	zone      string                // of link-local addresses
	near      func(netip.Addr) bool // tells the addresses that may be on the link
	instances map[string]*instance
	hosts     map[string]map[netip.Addr]lease // of those that instances are on
	lost      map[string]time.Time            // when an instance, or a host's address, said goodbye
	shared    map[netip.AddrPort]int          // instances that it is reported for
}

// An instance is one announced service.
type instance struct {
	host     string
	port     uint16
	claim    beacon.Claim // zero as long as there is none that is well-formed
	expires  time.Time
	gone     bool
	reported map[netip.AddrPort]sighting
}

// A sighting is a candidate and when its address was heard.
type sighting struct {
	discovery.Candidate
	heard time.Time
}

// A lease says how long an address is good for.
type lease struct{ heard, expires time.Time }

// newCache returns a cache for the link with the given zone. It takes in only the
// addresses that near accepts.
func newCache(zone string, near func(netip.Addr) bool) *cache {
	return &cache{
		zone:      zone,
		near:      near,
		instances: make(map[string]*instance),
		hosts:     make(map[string]map[netip.Addr]lease),
		lost:      make(map[string]time.Time),
		shared:    make(map[netip.AddrPort]int),
	}
}

// hear takes in the records of one message and returns what is new. The message
// answers a question of the time asked: a goodbye heard since then outweighs it.
func (c *cache) hear(records []dns.RR, asked, now time.Time) []discovery.Candidate {
	touched := make(map[string]bool)
	for _, rr := range records {
		touched[c.hearService(rr, asked, now)] = true
	}
	// Addresses come after, for they count only for hosts that services are on.
	if delete(touched, ""); len(touched) > 0 {
		c.admit()
	}
	for _, rr := range records {
		c.flush(rr, now)
	}
	for _, rr := range records {
		touched[c.hearAddress(rr, asked, now)] = true
	}
	return c.settle(touched)
}

// hearService takes in a PTR, SRV or TXT record. It returns the name of the
// instance that the record is about, "" if there is none.
func (c *cache) hearService(rr dns.RR, asked, now time.Time) string {
	name, ttl := dns.CanonicalName(rr.Header().Name), rr.Header().Ttl
	if ptr, ok := rr.(*dns.PTR); ok && name == serviceName {
		name = dns.CanonicalName(ptr.Ptr)
	}
	label, ok := strings.CutSuffix(name, "."+serviceName)
	if !ok || label == "" {
		return ""
	}
	switch rr.(type) {
	case *dns.PTR, *dns.SRV, *dns.TXT:
	default:
		return ""
	}
	if ttl == 0 {
		c.forget(name, now)
		return name
	}
	i := c.instance(name, asked)
	if i == nil {
		return ""
	}
	switch rr := rr.(type) {
	case *dns.SRV:
		i.host, i.port = dns.CanonicalName(rr.Target), rr.Port
	case *dns.TXT:
		i.claim, _ = beacon.Parse(unescape(rr.Txt)) // malformed means none
	}
	i.expires = now.Add(life(ttl))
	return name
}

// instance returns the instance called name, a new one if need be. It returns nil
// for one that left after asked, and if there are too many.
func (c *cache) instance(name string, asked time.Time) *instance {
	if c.lost[name].After(asked) {
		return nil
	}
	i, ok := c.instances[name]
	if !ok && len(c.instances) < maxInstances {
		i = &instance{reported: make(map[netip.AddrPort]sighting)}
		c.instances[name] = i
	}
	if i != nil {
		i.gone = false
	}
	return i
}

// forget notes the goodbye of an instance.
func (c *cache) forget(name string, now time.Time) {
	if i, ok := c.instances[name]; ok {
		i.gone = true
	}
	c.lose(name, now) // a query that still runs may have found it
}

// lose notes that name, or an address of it, is gone.
func (c *cache) lose(name string, now time.Time) {
	if len(c.lost) < maxLost {
		c.lost[name] = now
	}
}

// admit makes room for the addresses of the hosts that services are on, and
// forgets all others.
func (c *cache) admit() {
	hosts := make(map[string]map[netip.Addr]lease)
	for _, i := range c.instances {
		if i.host == "" || hosts[i.host] != nil {
			continue
		}
		if hosts[i.host] = c.hosts[i.host]; hosts[i.host] == nil {
			hosts[i.host] = make(map[netip.Addr]lease)
		}
	}
	c.hosts = hosts
}

// flush drops what rr replaces.
func (c *cache) flush(rr dns.RR, now time.Time) {
	fresh, ok := address(rr)
	if !ok || rr.Header().Class&flushBit == 0 {
		return
	}
	maps.DeleteFunc(c.hosts[dns.CanonicalName(rr.Header().Name)], func(a netip.Addr, l lease) bool {
		return a.Is4() == fresh.Is4() && now.Sub(l.heard) > flushed
	})
}

// hearAddress takes in an A or AAAA record and returns the host that it is about,
// "" if there is none.
func (c *cache) hearAddress(rr dns.RR, asked, now time.Time) string {
	a, ok := address(rr)
	name := dns.CanonicalName(rr.Header().Name)
	addresses := c.hosts[name]
	if !ok || addresses == nil {
		return ""
	}
	key := name + a.String()
	if rr.Header().Ttl == 0 {
		delete(addresses, a)
		c.lose(key, now)
		return name
	}
	if _, known := addresses[a]; c.lost[key].After(asked) || !known && (len(addresses) >= maxAddresses || !c.near(a)) {
		return name
	}
	addresses[a] = lease{heard: now, expires: now.Add(life(rr.Header().Ttl))}
	return name
}

// expire forgets what was not heard of for its life, and returns what that changes.
func (c *cache) expire(now time.Time) []discovery.Candidate {
	touched := make(map[string]bool)
	for name, i := range c.instances {
		if now.After(i.expires) {
			i.gone, touched[name] = true, true
		}
	}
	for name, addresses := range c.hosts {
		maps.DeleteFunc(addresses, func(_ netip.Addr, l lease) bool { return now.After(l.expires) })
		touched[name] = true
	}
	maps.DeleteFunc(c.lost, func(_ string, t time.Time) bool { return now.Sub(t) > 2*queryTime })
	return c.settle(touched)
}

// settle compares what is known of the named instances and hosts with what was
// reported of them, and returns the difference.
func (c *cache) settle(touched map[string]bool) []discovery.Candidate {
	delete(touched, "")
	var names []string
	for name, i := range c.instances {
		if touched[name] || touched[i.host] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var out []discovery.Candidate
	for _, name := range names {
		i := c.instances[name]
		out = append(out, c.report(i)...)
		if i.gone {
			delete(c.instances, name)
		}
	}
	return out
}

// report returns what is new of i, what was heard again, and what is gone.
func (c *cache) report(i *instance) []discovery.Candidate {
	var out []discovery.Candidate
	now := c.candidates(i)
	for _, s := range now {
		old, known := i.reported[s.Addr]
		if !known {
			c.shared[s.Addr]++
		}
		if old.Candidate != s.Candidate || s.heard.Sub(old.heard) >= again {
			out = append(out, s.Candidate)
			i.reported[s.Addr] = s
		}
	}
	for addr, s := range i.reported {
		if slices.ContainsFunc(now, func(s sighting) bool { return s.Addr == addr }) {
			continue
		}
		delete(i.reported, addr)
		if c.shared[addr]--; c.shared[addr] == 0 {
			delete(c.shared, addr)
			s.Gone = true
			out = append(out, s.Candidate)
		}
	}
	return out
}

// candidates are the addresses at which i may be reached.
func (c *cache) candidates(i *instance) []sighting {
	if i.gone || i.port == 0 || i.claim == (beacon.Claim{}) {
		return nil
	}
	var out []sighting
	for _, a := range slices.SortedFunc(maps.Keys(c.hosts[i.host]), netip.Addr.Compare) {
		heard := c.hosts[i.host][a].heard
		if a.Is6() && a.IsLinkLocalUnicast() {
			a = a.WithZone(c.zone)
		}
		out = append(out, sighting{discovery.Candidate{
			Addr: netip.AddrPortFrom(a, i.port), Route: discovery.LAN, Claim: i.claim, Source: "mdns",
		}, heard})
	}
	return out
}

// questions are what to ask next: who is there, and what is missing of those that
// were heard of.
func (c *cache) questions() []dns.Question {
	ask := func(name string, t uint16) dns.Question {
		return dns.Question{Name: name, Qtype: t, Qclass: dns.ClassINET}
	}
	out := []dns.Question{ask(serviceName, dns.TypePTR)}
	for name, i := range c.instances {
		switch {
		case len(out) >= maxQuestions:
			return out
		case i.port == 0 || i.claim == (beacon.Claim{}):
			out = append(out, ask(name, dns.TypeANY))
		case len(c.hosts[i.host]) == 0:
			out = append(out, ask(i.host, dns.TypeA), ask(i.host, dns.TypeAAAA))
		}
	}
	return out
}
