package mdns

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/mdns"
	"github.com/miekg/dns"

	"github.com/nixctl/nixctl/discovery"
)

const key = "key=SHA256:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"

// rrs reads records in zone file format. A "!" before a record sets its
// cache-flush bit.
func rrs(t testing.TB, lines ...string) []dns.RR {
	t.Helper()
	var out []dns.RR
	for _, l := range lines {
		text, flush := strings.CutPrefix(l, "!")
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		if flush {
			rr.Header().Class |= flushBit
		}
		out = append(out, rr)
	}
	return out
}

// service is a complete announcement of one machine.
func service(name, address string) []string {
	family := "A"
	if strings.Contains(address, ":") {
		family = "AAAA"
	}
	return []string{
		"_nixctl._tcp.local. 120 IN PTR " + name + "._nixctl._tcp.local.",
		"!" + name + "._nixctl._tcp.local. 120 IN SRV 0 0 22 " + name + ".local.",
		"!" + name + `._nixctl._tcp.local. 120 IN TXT "` + key + `" "name=` + name + `"`,
		"!" + name + ".local. 120 IN " + family + " " + address,
	}
}

// goodbye takes back the instance called name.
func goodbye(name string) string {
	return "_nixctl._tcp.local. 0 IN PTR " + name + "._nixctl._tcp.local."
}

// told writes candidates as "+address name" and "-address name".
func told(cs []discovery.Candidate) []string {
	var out []string
	for _, c := range cs {
		sign := "+"
		if c.Gone {
			sign = "-"
		}
		out = append(out, sign+c.Addr.String()+" "+c.Claim.Name)
	}
	return out
}

// local is the link of the tests.
func local(a netip.Addr) bool {
	return a.IsLinkLocalUnicast() || netip.MustParsePrefix("10.0.0.0/15").Contains(a) || netip.MustParsePrefix("fd00::/64").Contains(a)
}

// A heard message comes at a time and answers a question of a time, both in
// seconds; with none of its own, it expires what is old.
type heard struct {
	asked, at int
	records   []string
	want      []string
}

func TestCache(t *testing.T) {
	web := service("web", "10.0.0.2")
	tests := []struct {
		name  string
		heard []heard
	}{
		{"at once", []heard{{0, 0, web, []string{"+10.0.0.2:22 web"}}, {1, 1, web, nil}}},
		{"piece by piece, addresses last", []heard{
			{0, 0, web[:1], nil}, {0, 0, web[1:2], nil}, {0, 0, web[2:3], nil}, {0, 0, web[3:], []string{"+10.0.0.2:22 web"}},
		}},
		{"any order and case in one message", []heard{{0, 0, []string{
			web[3], strings.ToUpper(web[1]), web[2],
		}, []string{"+10.0.0.2:22 web"}}}},
		{"link-local with its zone", []heard{{0, 0, service("web", "fe80::2"), []string{"+[fe80::2%eth0]:22 web"}}}},
		{"addresses nobody can have", []heard{
			{0, 0, append(web[:3:3], "web.local. 120 IN A 127.0.0.1", "web.local. 120 IN A 224.0.0.1", "web.local. 120 IN A 0.0.0.0",
				"web.local. 120 IN A 255.255.255.255", "web.local. 120 IN AAAA ::1", "web.local. 120 IN AAAA ff02::1"), nil},
		}},
		{"addresses of other networks", []heard{
			{0, 0, append(web[:4:4], "web.local. 120 IN A 192.0.2.1", "web.local. 120 IN A 10.2.0.1", "web.local. 120 IN AAAA 2001:db8::1",
				"web.local. 120 IN AAAA ::ffff:192.0.2.1", "web.local. 120 IN A 169.254.1.1"), []string{"+10.0.0.2:22 web", "+169.254.1.1:22 web"}},
		}},
		{"heard again", []heard{
			{0, 0, web, []string{"+10.0.0.2:22 web"}}, {9, 9, web, nil}, {10, 10, web, []string{"+10.0.0.2:22 web"}},
			{19, 19, web, nil}, {0, 25, nil, nil}, {25, 25, web[:3], nil}, {26, 26, web[3:], []string{"+10.0.0.2:22 web"}},
		}},
		{"one of two addresses heard again", []heard{
			{0, 0, append(web[:4:4], "web.local. 120 IN A 10.0.0.3"), []string{"+10.0.0.2:22 web", "+10.0.0.3:22 web"}},
			{20, 20, []string{"web.local. 120 IN A 10.0.0.3"}, []string{"+10.0.0.3:22 web"}},
		}},
		{"not heard again after a goodbye", []heard{
			{0, 0, web, []string{"+10.0.0.2:22 web"}}, {20, 20, []string{goodbye("web")}, []string{"-10.0.0.2:22 web"}}, {19, 21, web, nil}, {0, 22, nil, nil},
		}},
		{"other services", []heard{{0, 0, []string{
			"_http._tcp.local. 120 IN PTR x._http._tcp.local.", "x._http._tcp.local. 120 IN SRV 0 0 80 x.local.", "x.local. 120 IN A 10.0.0.9",
			"_nixctl._tcp.local. 120 IN SRV 0 0 22 x.local.", "_nixctl._tcp.local. 120 IN PTR x._http._tcp.local.",
		}, nil}}},
		{"no claim, no port", []heard{
			{0, 0, append(slices.Clone(web[:2]), `web._nixctl._tcp.local. 120 IN TXT "name=web"`, web[3]), nil},
			{0, 0, []string{"web._nixctl._tcp.local. 120 IN SRV 0 0 0 web.local.", web[2]}, nil},
		}},
		{"a claim that turns bad", []heard{
			{0, 0, web, []string{"+10.0.0.2:22 web"}},
			{1, 1, []string{`web._nixctl._tcp.local. 120 IN TXT "` + key + `" "name=\027[2J"`}, []string{"-10.0.0.2:22 web"}},
		}},
		{"goodbye and return", []heard{
			{0, 0, web, []string{"+10.0.0.2:22 web"}}, {2, 2, []string{goodbye("web")}, []string{"-10.0.0.2:22 web"}}, {3, 3, web, []string{"+10.0.0.2:22 web"}},
		}},
		{"a query that began before the goodbye", []heard{
			{0, 0, web, []string{"+10.0.0.2:22 web"}}, {2, 2, []string{goodbye("web")}, []string{"-10.0.0.2:22 web"}}, {1, 3, web, nil},
		}},
		{"goodbye of a stranger, before its late answer", []heard{{2, 2, []string{goodbye("web")}, nil}, {1, 3, web, nil}}},
		{"goodbye of an address", []heard{
			{0, 0, append(web[:4:4], "web.local. 120 IN A 10.0.0.3"), []string{"+10.0.0.2:22 web", "+10.0.0.3:22 web"}},
			{2, 2, []string{"web.local. 0 IN A 10.0.0.2"}, []string{"-10.0.0.2:22 web"}},
			{1, 3, []string{"web.local. 120 IN A 10.0.0.2"}, nil},
		}},
		{"flush spares what was just heard, and the other family", []heard{
			{0, 0, append(web[:4:4], "!web.local. 120 IN AAAA fd00::2"), []string{"+10.0.0.2:22 web", "+[fd00::2]:22 web"}},
			{0, 0, []string{"!web.local. 120 IN A 10.0.0.3"}, []string{"+10.0.0.3:22 web"}},
			{5, 5, []string{"!web.local. 120 IN A 10.0.0.3"}, []string{"-10.0.0.2:22 web"}},
		}},
		{"silence", []heard{{0, 0, web, []string{"+10.0.0.2:22 web"}}, {0, 120, nil, nil}, {0, 121, nil, []string{"-10.0.0.2:22 web"}}, {130, 130, web, []string{"+10.0.0.2:22 web"}}}},
		{"two at one address", []heard{
			{0, 0, web, []string{"+10.0.0.2:22 web"}}, {0, 0, service("two", "10.0.0.2"), []string{"+10.0.0.2:22 two"}},
			{1, 1, []string{goodbye("two")}, nil}, {2, 2, []string{goodbye("web")}, []string{"-10.0.0.2:22 web"}},
		}},
	}
	start := time.Now()
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newCache("eth0", local)
			for i, h := range tt.heard {
				var got []string
				if h.records == nil {
					got = told(c.expire(at(h.at)))
				} else {
					got = told(c.hear(rrs(t, h.records...), at(h.asked), at(h.at)))
				}
				if !slices.Equal(got, h.want) {
					t.Errorf("message %d: got %q, want %q", i, got, h.want)
				}
			}
		})
	}
}

// What near says of addresses is what the kernel says of the interface.
func TestNear(t *testing.T) {
	lo, err := net.InterfaceByIndex(1)
	if err != nil || lo.Flags&net.FlagLoopback == 0 {
		t.Skip("needs a loopback interface with index 1")
	}
	l := &link{ifi: lo}
	for a, want := range map[string]bool{
		"127.0.0.1": true, "127.9.9.9": true, "::ffff:127.0.0.2": true, "169.254.3.4": true, "fe80::1": true, "fe80::1%lo": true,
		"8.8.8.8": false, "10.0.0.1": false, "2001:db8::1": false, "0.0.0.0": false,
	} {
		if got := l.near(netip.MustParseAddr(a)); got != want {
			t.Errorf("near(%s) = %t, want %t", a, got, want)
		}
	}
	gone := &link{ifi: &net.Interface{Index: 1 << 30, Name: "nx-none"}}
	if gone.near(netip.MustParseAddr("127.0.0.1")) {
		t.Error("an interface that is gone has neighbours")
	}
}

func TestQuestions(t *testing.T) {
	web := service("web", "10.0.0.2")
	tests := []struct {
		name    string
		records []string
		want    []string
	}{
		{"nobody", nil, []string{"_nixctl._tcp.local. PTR"}},
		{"everything known", web, []string{"_nixctl._tcp.local. PTR"}},
		{"only a name", web[:1], []string{"_nixctl._tcp.local. PTR", "web._nixctl._tcp.local. ANY"}},
		{"no address", web[:3], []string{"_nixctl._tcp.local. PTR", "web.local. A", "web.local. AAAA"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newCache("eth0", local)
			c.hear(rrs(t, tt.records...), time.Now(), time.Now())
			var got []string
			for _, q := range c.questions() {
				got = append(got, q.Name+" "+dns.TypeToString[q.Qtype])
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("questions %q, want %q", got, tt.want)
			}
		})
	}
}

// A flood of strangers fills the cache up to its bounds and not beyond.
func TestBounds(t *testing.T) {
	c := newCache("eth0", local)
	many := service("h0", "10.0.0.1")
	for a := range 2 * maxAddresses {
		many = append(many, fmt.Sprintf("h0.local. 120 IN A 10.1.0.%d", a))
	}
	goodbyes := []string{goodbye("g")}
	for i := range maxInstances + 8 {
		many = append(many, service(fmt.Sprintf("h%d", i), "10.0.0.1")...)
	}
	for i := range maxLost + 8 {
		goodbyes = append(goodbyes, goodbye(fmt.Sprintf("g%d", i)))
	}
	c.hear(rrs(t, many...), time.Now(), time.Now())
	c.hear(rrs(t, goodbyes...), time.Now(), time.Now())
	if n := len(c.hosts["h0.local."]); n != maxAddresses {
		t.Errorf("%d addresses of one host, want %d", n, maxAddresses)
	}
	check(t, c)
	if len(c.instances) != maxInstances || len(c.lost) != maxLost {
		t.Errorf("%d instances and %d goodbyes, want %d and %d", len(c.instances), len(c.lost), maxInstances, maxLost)
	}
}

func check(t *testing.T, c *cache) {
	t.Helper()
	if len(c.instances) > maxInstances || len(c.hosts) > maxInstances || len(c.lost) > maxLost || len(c.questions()) > maxQuestions+1 {
		t.Errorf("%d instances, %d hosts, %d goodbyes, %d questions", len(c.instances), len(c.hosts), len(c.lost), len(c.questions()))
	}
	for name, addresses := range c.hosts {
		if len(addresses) > maxAddresses {
			t.Errorf("%d addresses of %q", len(addresses), name)
		}
	}
}

// The library tells an address of each family, and with which zone it was heard.
func TestEntryRecords(t *testing.T) {
	tests := []struct{ name, v6, zone, want string }{
		{"this link", "fe80::2", "eth0", "[+10.0.0.2:22 web +[fe80::2%eth0]:22 web]"},
		{"another link", "fe80::2", "eth1", "[+10.0.0.2:22 web]"},
		{"unknown link", "fe80::2", "", "[+10.0.0.2:22 web]"},
		{"global", "fd00::2", "", "[+10.0.0.2:22 web +[fd00::2]:22 web]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := &mdns.ServiceEntry{
				Name: "web._nixctl._tcp.local.", Host: "web.local.", Port: 22, InfoFields: []string{key, "name=web"},
				AddrV4: net.IPv4(10, 0, 0, 2), AddrV6IPAddr: &net.IPAddr{IP: net.ParseIP(tt.v6), Zone: tt.zone},
			}
			got := told(newCache("eth0", local).hear(entryRecords(e, "eth0"), time.Now(), time.Now()))
			if fmt.Sprint(got) != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestParse(t *testing.T) {
	pack := func(m *dns.Msg) []byte {
		b, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	tests := []struct {
		name   string
		packet []byte
		ok     bool
	}{
		{"response", pack(&dns.Msg{MsgHdr: dns.MsgHdr{Response: true}, Answer: rrs(t, service("web", "10.0.0.2")...)}), true},
		{"question", pack(&dns.Msg{}), false},
		{"failure", pack(&dns.Msg{MsgHdr: dns.MsgHdr{Response: true, Rcode: dns.RcodeNameError}}), false},
		{"update", pack(&dns.Msg{MsgHdr: dns.MsgHdr{Response: true, Opcode: dns.OpcodeUpdate}}), false},
		{"empty", nil, false},
		{"noise", []byte(strings.Repeat("\xff", 100)), false},
		{"too long", make([]byte, maxMessage+1), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if m, err := parse(tt.packet); (err == nil) != tt.ok || (m != nil) != tt.ok {
				t.Errorf("parse = %v, %v; want ok %t", m, err, tt.ok)
			}
		})
	}
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{
		"plain": "plain", `a\"b\\c`: `a"b\c`, `b\195\188ro`: "büro", `end\`: `end\`, `\1`: "1", `\12x`: "12x", "": "",
	} {
		if got := unescapeOne(in); got != want {
			t.Errorf("unescapeOne(%q) = %q, want %q", in, got, want)
		}
	}
}

// FuzzHear feeds two packets from the wire to a cache: nothing panics, the bounds
// hold, and every candidate could be dialed and printed.
func FuzzHear(f *testing.F) {
	for _, lines := range [][]string{service("web", "10.0.0.2"), service("web", "fe80::2"), {goodbye("web")}} {
		b, err := (&dns.Msg{MsgHdr: dns.MsgHdr{Response: true}, Compress: true, Answer: rrs(f, lines...)}).Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, b[:len(b)/2])
	}
	start := time.Now()
	f.Fuzz(func(t *testing.T, one, two []byte) {
		c := newCache("eth0", local)
		var all []discovery.Candidate
		for i, packet := range [][]byte{one, two} {
			if m, err := parse(packet); err == nil {
				now := start.Add(time.Duration(i) * time.Minute)
				all = append(all, c.hear(records(m), now, now)...)
			}
		}
		check(t, c)
		for _, cand := range append(all, c.expire(start.Add(2*maxLife))...) {
			a := cand.Addr.Addr()
			if !cand.Addr.IsValid() || cand.Addr.Port() == 0 || a.IsLoopback() || a.IsMulticast() || a.IsUnspecified() || cand.Claim.Fingerprint == "" {
				t.Errorf("candidate %+v", cand)
			}
			if zoned := a.Is6() && a.IsLinkLocalUnicast(); zoned != (a.Zone() == "eth0") {
				t.Errorf("zone of %v", a)
			}
		}
		if len(c.instances)+len(c.shared) != 0 {
			t.Errorf("%d instances and %d addresses never expire", len(c.instances), len(c.shared))
		}
	})
}
