//go:build linux

package announce

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/nixctl/nixctl/discovery/beacon"
)

var (
	claim = beacon.Claim{Name: `Lab 4.b\c`, Fingerprint: "SHA256:x"}
	mac   = net.HardwareAddr{0x52, 0x54, 0, 0x12, 0x34, 0x56}
	two   = []link{
		{1, "eth0", []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fe80::1")}},
		{2, "eth1", []netip.Addr{netip.MustParseAddr("169.254.3.4"), netip.MustParseAddr("fd00::2")}},
	}
)

const (
	instance = `lab\ 4\.b\\c\ 123456._nixctl._tcp.local.`
	host     = "lab-4-b-c-123456.local."
)

// kinds writes records as their types, with the address where there is one.
func kinds(records []dns.RR) []string {
	var out []string
	for _, rr := range records {
		s := dns.TypeToString[rr.Header().Rrtype]
		switch rr := rr.(type) {
		case *dns.A:
			s += " " + rr.A.String()
		case *dns.AAAA:
			s += " " + rr.AAAA.String()
		}
		out = append(out, s)
	}
	return out
}

func TestRecords(t *testing.T) {
	addresses := []string{"A 10.0.0.2", "AAAA fe80::1", "A 169.254.3.4", "AAAA fd00::2"}
	all := append([]string{"PTR", "SRV", "TXT"}, addresses...)
	tests := []struct {
		name  string
		qname string
		qtype uint16
		want  []string
	}{
		{"browse", "_nixctl._tcp.local.", dns.TypePTR, all},
		{"browse in capitals", "_NIXCTL._TCP.LOCAL.", dns.TypePTR, all},
		{"browse for any", "_nixctl._tcp.local.", dns.TypeANY, all},
		{"types of services", "_services._dns-sd._udp.local.", dns.TypePTR, []string{"PTR"}},
		{"where", instance, dns.TypeSRV, append([]string{"SRV"}, addresses...)},
		{"where, in capitals", strings.ToUpper(instance), dns.TypeSRV, append([]string{"SRV"}, addresses...)},
		{"what", instance, dns.TypeTXT, append([]string{"TXT"}, addresses...)},
		{"any of the instance", instance, dns.TypeANY, append([]string{"SRV", "TXT"}, addresses...)},
		{"host", host, dns.TypeA, []string{"A 10.0.0.2", "A 169.254.3.4"}},
		{"host, IPv6", host, dns.TypeAAAA, []string{"AAAA fe80::1", "AAAA fd00::2"}},
		{"any of the host", host, dns.TypeANY, addresses},
		{"address of the service", "_nixctl._tcp.local.", dns.TypeA, nil},
		{"mail of the host", host, dns.TypeMX, nil},
		{"another service", "_http._tcp.local.", dns.TypePTR, nil},
		{"another instance", `lab._nixctl._tcp.local.`, dns.TypeANY, nil},
		{"nothing", "", dns.TypeANY, nil},
	}
	z := newZone(claim, mac, 22, two)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := kinds(z.Records(dns.Question{Name: tt.qname, Qtype: tt.qtype})); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// What is announced must come back from the wire as it was meant.
func TestAnnouncement(t *testing.T) {
	z := newZone(claim, mac, 2222, two)
	m := &dns.Msg{Answer: z.all(ttl, 1)}
	packet, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Unpack(packet); err != nil {
		t.Fatal(err)
	}
	if got, want := kinds(m.Answer), []string{"PTR", "SRV", "TXT", "A 10.0.0.2", "AAAA fe80::1", "AAAA fd00::2"}; !slices.Equal(got, want) {
		t.Errorf("on eth0: %q, want %q", got, want)
	}
	srv := m.Answer[1].(*dns.SRV)
	if srv.Port != 2222 || srv.Target != host || srv.Hdr.Name != instance || srv.Hdr.Ttl != ttl {
		t.Errorf("SRV is %v", srv)
	}
	if got, want := m.Answer[2].(*dns.TXT).Txt, []string{`name=Lab 4.b\\c`, "key=SHA256:x"}; !slices.Equal(got, want) {
		t.Errorf("TXT is %q, want %q", got, want)
	}
	for i, rr := range m.Answer {
		if alone := rr.Header().Class&(1<<15) != 0; alone != (i > 0) {
			t.Errorf("cache-flush bit of %v is %t", rr, alone)
		}
	}
}

func TestVanished(t *testing.T) {
	old := newZone(claim, mac, 22, two)
	renamed := claim
	renamed.Name = "web1"
	tests := []struct {
		name string
		now  *zone
		want []string
	}{
		{"nothing", newZone(claim, mac, 22, two), nil},
		{"a link", newZone(claim, mac, 22, two[:1]), []string{"AAAA fd00::2"}}, // the other was never told on link 1
		{"all links", newZone(claim, mac, 22, nil), []string{"A 10.0.0.2", "AAAA fe80::1", "AAAA fd00::2"}},
		{"the name", newZone(renamed, mac, 22, two), []string{"PTR", "A 10.0.0.2", "AAAA fe80::1", "AAAA fd00::2"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.now.vanished(old, 1)
			if !slices.Equal(kinds(got), tt.want) {
				t.Errorf("got %q, want %q", kinds(got), tt.want)
			}
			for _, rr := range got {
				if rr.Header().Ttl != 0 {
					t.Errorf("%v is no goodbye", rr)
				}
			}
		})
	}
	if got := old.vanished(nil, 1); got != nil {
		t.Errorf("got %q from no zone", kinds(got))
	}
}

func TestHostLabel(t *testing.T) {
	for in, want := range map[string]string{
		"web1": "web1", "Lab 4.b": "lab-4-b", "-x-": "x", "büro": "b-ro", "": "installer", "...": "installer", "日本": "installer",
		strings.Repeat("a", 80): strings.Repeat("a", 56),
	} {
		if got := hostLabel(in, 56); got != want {
			t.Errorf("hostLabel(%q) = %q, want %q", in, got, want)
		}
	}
}

// FuzzZone checks that every name makes a zone that can be sent, and that can be
// asked for by what a browser reads from it.
func FuzzZone(f *testing.F) {
	f.Add("web1", "_nixctl._tcp.local.", uint16(dns.TypePTR))
	f.Add(`a\b.c "d"`, instance, uint16(dns.TypeANY))
	f.Add(strings.Repeat("ü", 60), "", uint16(0))
	f.Fuzz(func(t *testing.T, name, qname string, qtype uint16) {
		z := newZone(beacon.Claim{Name: plain(name), Fingerprint: "SHA256:x"}, mac, 22, two)
		packet, err := (&dns.Msg{Answer: z.all(ttl, 0), Compress: true}).Pack()
		if err != nil {
			t.Fatal(err)
		}
		var m dns.Msg
		if err := m.Unpack(packet); err != nil {
			t.Fatal(err)
		}
		ptr := m.Answer[0].(*dns.PTR).Ptr
		if got := z.Records(dns.Question{Name: ptr, Qtype: dns.TypeSRV}); len(got) == 0 {
			t.Errorf("no SRV record for %q", ptr)
		}
		if len(packet) > 1200 {
			t.Errorf("%d bytes do not fit a packet", len(packet))
		}
		z.Records(dns.Question{Name: qname, Qtype: qtype})
	})
}
