//go:build linux

package announce

import (
	"encoding/hex"
	"net"
	"net/netip"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/mdns"
	"github.com/miekg/dns"

	"github.com/nixctl/nixctl/discovery/beacon"
)

// The names that every DNS-SD service lives under (RFC 6763 sections 4 and 9).
const (
	serviceName = beacon.Service + ".local."
	metaName    = "_services._dns-sd._udp.local."
)

// ttl is how long the records may be kept, in seconds. RFC 6762 section 10 allows
// 75 minutes for some of them, but a machine that is switched off says no goodbye.
const ttl = 120

// flush marks a record as the only one of its name and type, so that older ones
// are dropped (RFC 6762 section 10.2).
const flush = dns.ClassINET | 1<<15

// maxLabel is the size of a DNS label in bytes.
const maxLabel = 63

// A zone is what one machine says about itself: immutable, and thus safe for the
// goroutines of all servers. It stands in for mdns.MDNSService, which compares
// names by case, escapes nothing, knows no cache-flush bit and one address only.
type zone struct {
	instance, host string // canonical, fully qualified
	port           uint16
	txt            []string
	links          []link
}

var _ mdns.Zone = (*zone)(nil)

// newZone names the machine after name and the end of the address of its card:
// machines booted from one ISO share a name and differ in their cards.
func newZone(c beacon.Claim, card net.HardwareAddr, port uint16, links []link) *zone {
	name, end := c.Name, hex.EncodeToString(card[max(0, len(card)-3):])
	if name == "" {
		name = "installer"
	}
	z := &zone{
		instance: canonical(escape(cut(name, maxLabel-len(end)-1)+" "+end) + "." + serviceName),
		host:     canonical(hostLabel(name, maxLabel-len(end)-1) + "-" + end + ".local."),
		port:     port,
		links:    links,
	}
	for _, s := range c.TXT() {
		z.txt = append(z.txt, strings.ReplaceAll(s, `\`, `\\`)) // dns reads \ as an escape here too
	}
	return z
}

// all returns every record but the meta query's. Addresses that are valid on one
// link only are left out for other links (RFC 6762 section 15); on 0 means any link.
func (z *zone) all(ttl uint32, on int) []dns.RR {
	head := func(name string, t, class uint16) dns.RR_Header {
		return dns.RR_Header{Name: name, Rrtype: t, Class: class, Ttl: ttl}
	}
	records := []dns.RR{
		&dns.PTR{Hdr: head(serviceName, dns.TypePTR, dns.ClassINET), Ptr: z.instance},
		&dns.SRV{Hdr: head(z.instance, dns.TypeSRV, flush), Port: z.port, Target: z.host},
		&dns.TXT{Hdr: head(z.instance, dns.TypeTXT, flush), Txt: z.txt},
	}
	for _, a := range z.addresses(on) {
		if a.Is4() {
			records = append(records, &dns.A{Hdr: head(z.host, dns.TypeA, flush), A: a.AsSlice()})
		} else {
			records = append(records, &dns.AAAA{Hdr: head(z.host, dns.TypeAAAA, flush), AAAA: a.AsSlice()})
		}
	}
	return records
}

func (z *zone) addresses(on int) []netip.Addr {
	var out []netip.Addr
	for _, l := range z.links {
		for _, a := range l.addresses {
			if on == 0 || on == l.index || !a.IsLinkLocalUnicast() {
				out = append(out, a)
			}
		}
	}
	return out
}

// Records implements [mdns.Zone]. The answers hold for every link: the kernel
// hands a query to the servers of all links, and each answers it.
func (z *zone) Records(q dns.Question) []dns.RR {
	name := canonical(q.Name)
	if name == metaName && asks(q, dns.TypePTR) {
		h := dns.RR_Header{Name: metaName, Rrtype: dns.TypePTR, Class: dns.ClassINET, Ttl: ttl}
		return []dns.RR{&dns.PTR{Hdr: h, Ptr: serviceName}}
	}
	all := z.all(ttl, 0)
	if name == serviceName && asks(q, dns.TypePTR) {
		return all // who asks for the service wants to know the rest as well
	}
	var answers []dns.RR
	for _, rr := range all {
		if rr.Header().Name == name && asks(q, rr.Header().Rrtype) {
			answers = append(answers, rr)
		}
	}
	if name == z.instance && len(answers) > 0 {
		answers = append(answers, all[3:]...) // the addresses, as RFC 6763 section 12.2 asks
	}
	return answers
}

// asks reports whether q wants records of type t.
func asks(q dns.Question, t uint16) bool { return q.Qtype == t || q.Qtype == dns.TypeANY }

// vanished returns goodbyes for what old told and z no longer does, so that
// nobody tries an address that is gone. Changed SRV and TXT records need none:
// their cache-flush bit replaces them.
func (z *zone) vanished(old *zone, on int) []dns.RR {
	if old == nil {
		return nil
	}
	var gone []dns.RR
	for _, rr := range old.all(0, on) {
		t := rr.Header().Rrtype
		if (t == dns.TypePTR || t == dns.TypeA || t == dns.TypeAAAA) && !holds(z.all(0, on), rr) {
			gone = append(gone, rr)
		}
	}
	return gone
}

func holds(records []dns.RR, rr dns.RR) bool {
	for _, r := range records {
		if dns.IsDuplicate(r, rr) {
			return true
		}
	}
	return false
}

// escape writes a label as package dns reads it.
func escape(label string) string {
	return strings.NewReplacer(`\`, `\\`, `.`, `\.`).Replace(label)
}

// canonical returns name with the escapes and the case in which package dns
// delivers it from the wire, so that names compare as strings.
func canonical(name string) string {
	buf := make([]byte, 256)
	if _, err := dns.PackDomainName(name, buf, 0, nil, false); err != nil {
		return dns.CanonicalName(name)
	}
	wire, _, err := dns.UnpackDomainName(buf, 0)
	if err != nil {
		return dns.CanonicalName(name)
	}
	return dns.CanonicalName(wire)
}

// cut shortens s to n bytes at most, between two characters.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// hostLabel makes a host name of at most n bytes (RFC 1123 section 2.1) of name.
func hostLabel(name string, n int) string {
	label := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(name))
	if label = strings.Trim(cut(label, n), "-"); label == "" {
		return "installer"
	}
	return label
}
