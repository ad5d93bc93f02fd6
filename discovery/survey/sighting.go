package survey

import (
	"net/netip"
	"slices"
	"time"

	"github.com/nixctl/nixctl/discovery"
	"github.com/nixctl/nixctl/discovery/beacon"
	"github.com/nixctl/nixctl/discovery/verify"
	"golang.org/x/crypto/ssh"
)

// A sighting is what is known of one address.
type sighting struct {
	addr      netip.AddrPort
	mac       string
	claim     beacon.Claim
	via       []string
	key       ssh.PublicKey // nil until it is proved
	installer *verify.Installer
	machine   int // the machine it belongs to; 0 until it is known
	first     time.Time
	seen      time.Time
	tried     time.Time
	checking  bool
	misses    int // checks in a row that failed since it was proved
}

// merge takes over what c tells and reports whether that is news.
func (s *sighting) merge(c discovery.Candidate) bool {
	news := false
	if c.Claim != (beacon.Claim{}) && c.Claim != s.claim {
		s.claim, news = c.Claim, true
	}
	if !slices.Contains(s.via, c.Source) {
		s.via, news = append(s.via, c.Source), true
	}
	if s.mac == "" && c.MAC != "" {
		s.mac, news = c.MAC, true
	}
	return news
}

// sameMachine reports whether s and o are addresses of one machine.
func (s *sighting) sameMachine(o *sighting) bool {
	switch {
	case s.key == nil || o.key == nil || !sameKey(s.key, o.key):
		return false
	case s.mac != "" && o.mac != "":
		return s.mac == o.mac
	case s.claim.ID != "" && o.claim.ID != "":
		return s.claim.ID == o.claim.ID
	case s.mac != "":
		return s.mac == o.claim.MAC
	case o.mac != "":
		return o.mac == s.claim.MAC
	default:
		return false
	}
}

// view is the machine as s alone shows it.
func (s *sighting) view() Machine {
	m := Machine{ID: s.machine, Installer: s.installer, Key: s.key, Addresses: []netip.AddrPort{s.addr}, MAC: s.mac,
		Claim: s.claim, Via: slices.Sorted(slices.Values(s.via)), First: s.first, Seen: s.seen}
	if s.installer != nil {
		m.RTT = s.installer.RTT()
	}
	return m
}

func sameKey(a, b ssh.PublicKey) bool { return string(a.Marshal()) == string(b.Marshal()) }
