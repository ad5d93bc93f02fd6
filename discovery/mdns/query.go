package mdns

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"time"

	"github.com/hashicorp/mdns"
	"github.com/miekg/dns"

	"github.com/nixctl/nixctl/discovery/beacon"
)

// queryTime is how long one query waits for answers. On a LAN they come within
// milliseconds; a machine with a sleeping Wi-Fi card takes longer.
const queryTime = 400 * time.Millisecond

// entryTTL is the life of what a query found, in seconds; the library does not
// say what the records said.
const entryTTL = 120

// An answer is what one query found.
type answer struct {
	asked   time.Time
	records []dns.RR
	err     error
}

// query asks once over one address family. The library asks over both in one
// query too, but not over the second if the first fails.
func query(ctx context.Context, ifi *net.Interface, v6 bool) answer {
	asked := time.Now()
	// The library drops what does not fit.
	entries := make(chan *mdns.ServiceEntry, 256)
	err := mdns.QueryContext(ctx, &mdns.QueryParam{
		Service:     beacon.Service,
		Timeout:     queryTime,
		Interface:   ifi,
		Entries:     entries,
		DisableIPv4: v6,
		DisableIPv6: !v6,
		Logger:      log.New(io.Discard, "", 0), // it calls a missing family an error
	})
	close(entries)
	if err != nil {
		return answer{err: fmt.Errorf("query: %w", err)}
	}
	a := answer{asked: asked}
	for e := range entries { // only now: the library writes to entries it has sent
		a.records = append(a.records, entryRecords(e, ifi.Name)...)
	}
	return a
}

// entryRecords undoes what the library did, so that all that is heard passes the
// same checks. The library also hears other links than the one it asks on, so a
// link-local address counts only if it is known to be of this one.
func entryRecords(e *mdns.ServiceEntry, zone string) []dns.RR {
	head := func(name string, t uint16) dns.RR_Header {
		return dns.RR_Header{Name: name, Rrtype: t, Class: dns.ClassINET, Ttl: entryTTL}
	}
	records := []dns.RR{
		&dns.SRV{Hdr: head(e.Name, dns.TypeSRV), Target: e.Host, Port: uint16(e.Port)},
		&dns.TXT{Hdr: head(e.Name, dns.TypeTXT), Txt: e.InfoFields},
	}
	if e.AddrV4 != nil {
		records = append(records, &dns.A{Hdr: head(e.Host, dns.TypeA), A: e.AddrV4})
	}
	if a := e.AddrV6IPAddr; a != nil && (a.Zone == zone || !a.IP.IsLinkLocalUnicast()) {
		records = append(records, &dns.AAAA{Hdr: head(e.Host, dns.TypeAAAA), AAAA: a.IP})
	}
	return records
}
