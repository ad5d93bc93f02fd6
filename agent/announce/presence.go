//go:build linux

package announce

import (
	"bytes"
	"context"
	"io"
	"log"
	"net"
	"slices"
	"time"

	"github.com/hashicorp/mdns"
	"github.com/miekg/dns"

	"github.com/nixctl/nixctl/discovery/beacon"
)

// A presence is what the LAN knows of this machine now.
type presence struct {
	responder *Responder
	card      net.HardwareAddr // chosen once, for the name that is made of it must not change
	claim     beacon.Claim
	claimed   bool
	waiting   string // why there is no claim yet, as logged
	links     []link
	stale     bool // a server could not be started

	zone    *zone // nil before there is anything to say
	servers []*mdns.Server
	asked   chan int          // links on which somebody asked
	spoke   map[int]time.Time // when everybody on a link was told last
}

// readNetwork reports whether the links changed.
func (p *presence) readNetwork() bool {
	links, card, err := network()
	if err != nil {
		p.responder.log.Warn("network not read", "err", err)
		return false // until the next event or refresh
	}
	if p.card == nil {
		p.card = bytes.Clone(card)
	}
	changed := !slices.EqualFunc(links, p.links, link.equal)
	p.links = links
	return p.readClaim() || changed
}

// readClaim reports whether there is something new to announce.
func (p *presence) readClaim() bool {
	if p.card == nil {
		return false
	}
	claim, err := p.responder.claim(p.card)
	if err != nil {
		if why := err.Error(); why != p.waiting { // once, not every second
			p.waiting = why
			p.responder.log.Info("nothing to announce yet", "err", err)
		}
		return false
	}
	changed := !p.claimed || claim != p.claim
	p.claim, p.claimed = claim, true
	return changed
}

// renew makes the zone and the servers match the links and the claim, and
// announces them.
func (p *presence) renew(ctx context.Context) {
	if !p.claimed {
		return
	}
	before, servers := p.zone, p.servers
	p.zone = newZone(p.claim, p.card, p.responder.port, p.links)
	p.servers, p.stale = nil, false
	for _, l := range p.links {
		p.send(ctx, l, p.zone.vanished(before, l.index))
		p.serve(l)
	}
	shutdown(servers) // after the new ones are there, to miss no question
	p.announce(ctx)
	p.responder.log.Info("announcing", "name", p.zone.instance, "links", names(p.links), "addresses", p.zone.addresses(0))
}

// serve starts answering on l.
func (p *presence) serve(l link) {
	s, err := mdns.NewServer(&mdns.Config{
		Zone:   listening{p.zone, l.index, p.asked},
		Iface:  &net.Interface{Index: l.index, Name: l.name},
		Logger: log.New(io.Discard, "", 0), // it calls every foreign packet an error
	})
	if err != nil {
		p.responder.log.Warn("link not served, trying again later", "link", l.name, "err", err)
		p.stale = true
		return
	}
	p.servers = append(p.servers, s)
}

// announce tells everybody on every link.
func (p *presence) announce(ctx context.Context) {
	if p.zone == nil {
		return
	}
	clear(p.spoke)
	for _, l := range p.links {
		p.spoke[l.index] = time.Now()
		if p.send(ctx, l, p.zone.all(ttl, l.index)) {
			p.responder.once.Do(func() { close(p.responder.ready) })
		}
	}
}

// answer tells everybody on the link where somebody asked. The server answers
// whoever asked; the others need not ask again then, and a browser that takes
// answers to everybody alone, as the standard has it, is served as well. If
// everybody was told just now, answer returns how long it is to be put off.
func (p *presence) answer(ctx context.Context, index int) time.Duration {
	i := slices.IndexFunc(p.links, func(l link) bool { return l.index == index })
	if i < 0 {
		return 0
	}
	if wait := repeat - time.Since(p.spoke[index]); wait > 0 {
		return wait
	}
	p.spoke[index] = time.Now()
	p.send(ctx, p.links[i], p.zone.all(ttl, index))
	return 0
}

// leave says goodbye and stops answering.
func (p *presence) leave(ctx context.Context) {
	shutdown(p.servers)
	if p.zone == nil {
		return
	}
	for _, l := range p.links {
		p.send(ctx, l, p.zone.all(0, l.index))
	}
}

// send speaks on l and reports whether that went well. An error is no failure of
// the service: links go while one speaks on them.
func (p *presence) send(ctx context.Context, l link, records []dns.RR) bool {
	if len(records) == 0 {
		return true
	}
	err := speak(ctx, l, records)
	if err != nil {
		p.responder.log.Warn("not announced", "err", err)
	}
	return err == nil
}

func shutdown(servers []*mdns.Server) {
	for _, s := range servers {
		s.Shutdown() // never an error
	}
}

func names(links []link) []string {
	var out []string
	for _, l := range links {
		out = append(out, l.name)
	}
	return out
}

// A listening zone tells the responder on which link its records were asked for.
type listening struct {
	*zone
	index int
	asked chan<- int
}

// Records implements [mdns.Zone].
func (l listening) Records(q dns.Question) []dns.RR {
	records := l.zone.Records(q)
	if len(records) > 0 {
		select {
		case l.asked <- l.index:
		default: // enough have asked
		}
	}
	return records
}
