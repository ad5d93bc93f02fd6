package arp

import (
	"errors"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func prefixes(list ...string) []netip.Prefix {
	var p []netip.Prefix
	for _, s := range list {
		p = append(p, netip.MustParsePrefix(s))
	}
	return p
}

func TestNamed(t *testing.T) {
	own := prefixes("10.0.0.1/24", "192.168.7.5/29", "fe80::1/64")
	for _, tt := range []struct {
		named  []netip.Prefix
		n      int
		first  string
		last   string
		source string // of the first
	}{
		{prefixes("10.0.0.0/24"), 253, "10.0.0.2", "10.0.0.254", "10.0.0.1"},
		{prefixes("192.168.7.0/29"), 5, "192.168.7.1", "192.168.7.6", "192.168.7.5"},
		{prefixes("172.16.0.0/30"), 2, "172.16.0.1", "172.16.0.2", "10.0.0.1"},
		{prefixes("10.0.0.8/31"), 2, "10.0.0.8", "10.0.0.9", "10.0.0.1"},
		{prefixes("10.0.0.9/32", "10.0.0.8/30"), 2, "10.0.0.9", "10.0.0.10", "10.0.0.1"},
		{prefixes("255.255.255.254/31"), 2, "255.255.255.254", "255.255.255.255", "10.0.0.1"},
		{prefixes("10.1.0.0/16"), 65534, "10.1.0.1", "10.1.255.254", "10.0.0.1"},
		{prefixes("10.0.0.1/32"), 0, "", "", ""},
	} {
		got, err := named("eth0", tt.named, own, maxTargets)
		if err != nil || len(got) != tt.n {
			t.Errorf("%v: %d targets, %v; want %d", tt.named, len(got), err, tt.n)
			continue
		}
		if tt.n > 0 && (got[0] != target{netip.MustParseAddr(tt.first), netip.MustParseAddr(tt.source)} ||
			got[tt.n-1].addr != netip.MustParseAddr(tt.last)) {
			t.Errorf("%v: %v to %v, want %s to %s from %s", tt.named, got[0], got[tt.n-1], tt.first, tt.last, tt.source)
		}
	}
}

func TestNamedRefuses(t *testing.T) {
	own := prefixes("10.0.0.1/24")
	for _, tt := range []struct {
		named, own []netip.Prefix
		large      bool
		text       string
	}{
		{prefixes("10.0.0.0/15"), own, true, `"10.0.0.0/15" has 131072 addresses, the limit is 65536`},
		{prefixes("0.0.0.0/0"), own, true, `"0.0.0.0/0"`},
		{prefixes("10.1.0.0/16", "10.2.0.0/24"), own, true, `"10.2.0.0/24"`},
		{prefixes("fd00::/64"), own, false, `"fd00::/64" is not IPv4`},
		{[]netip.Prefix{{}}, own, false, "is not IPv4"},
		{prefixes("10.0.0.0/24"), prefixes("fe80::1/64"), false, `"eth0" has no IPv4 address`},
	} {
		_, err := named("eth0", tt.named, tt.own, maxTargets)
		if err == nil || errors.Is(err, ErrTooLarge) != tt.large || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%v: error %v, want one with %q", tt.named, err, tt.text)
		}
	}
}

func TestSuitable(t *testing.T) {
	const lan = net.FlagUp | net.FlagBroadcast | net.FlagMulticast
	for _, tt := range []struct {
		name  string
		flags net.Flags
		want  bool
	}{
		{"eth0", lan, true},
		{"enp3s0", lan | net.FlagRunning, true},
		{"wlan0", lan, true},
		{"br0", lan, true},
		{"eth1", lan &^ net.FlagUp, false},
		{"lo", net.FlagUp | net.FlagLoopback | net.FlagMulticast, false},
		{"ppp0", net.FlagUp | net.FlagPointToPoint | net.FlagMulticast, false},
		{"tailscale0", lan, false},
		{"br-0a1b2c", lan, false},
		{"vethf00", lan, false},
	} {
		if got := suitable(&net.Interface{Name: tt.name, Flags: tt.flags}); got != tt.want {
			t.Errorf("suitable(%s, %v) = %v", tt.name, tt.flags, got)
		}
	}
}

func TestCapabilityHint(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("capabilities are Linux's")
	}
	for path, want := range map[string]string{
		"/usr/local/bin/nixctl":       "sudo setcap cap_net_raw,cap_net_admin+ep /usr/local/bin/nixctl",
		"/home/a b/it's":              `sudo setcap cap_net_raw,cap_net_admin+ep '/home/a b/it'\''s'`,
		"/nix/store/x-nixctl/bin/nix": "security.wrappers",
	} {
		if got := CapabilityHint(path); !strings.Contains(got, want) {
			t.Errorf("CapabilityHint(%q) = %q, want %q", path, got, want)
		}
	}
}

func TestNoInterface(t *testing.T) {
	s := new(Source)
	if err := s.Find(t.Context(), nil); err == nil || s.String() != "arp" || s.Duration() != 0 {
		t.Errorf("a %s without an interface was taken", s)
	}
}

// TestUnique guards the order that the requests of a round go out in.
func TestUnique(t *testing.T) {
	a, b := netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.10")
	got := unique([]target{{b, a}, {a, b}, {b, b}})
	if len(got) != 2 || !slices.IsSortedFunc(got, func(x, y target) int { return x.addr.Compare(y.addr) }) {
		t.Errorf("unique = %v", got)
	}
}
