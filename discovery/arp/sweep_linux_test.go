package arp_test

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// all4 are the IPv4 addresses with an SSH server.
func all4() map[string][]string {
	want := make(map[string][]string)
	for i := range machines {
		want[machineAddr(i)+":22"] = []string{machineMAC(i)}
	}
	return want
}

// all6 are the same machines' link-local addresses.
func all6() map[string][]string {
	want := make(map[string][]string)
	for i := range machines {
		want[fmt.Sprintf("[fe80::ba27:ebff:fe00:%x%%eth0]:22", i)] = []string{machineMAC(i)}
	}
	return want
}

func all() map[string][]string {
	want := all4()
	maps.Copy(want, all6())
	return want
}

// only4 leaves the IPv4 addresses.
func only4(found map[string][]string) map[string][]string {
	maps.DeleteFunc(found, func(a string, _ []string) bool { return strings.HasPrefix(a, "[") })
	return found
}

func check(t *testing.T, found, want map[string][]string) {
	t.Helper()
	if !reflect.DeepEqual(found, want) {
		t.Errorf("found %v\nwant  %v", found, want)
	}
}

// TestComplete wants every open port, its MAC, and nothing else: no closed or
// filtered port, nothing twice.
func TestComplete(t *testing.T) {
	for _, bits := range []int{24, 22} {
		for _, permille := range []int{0, 50, 200} {
			t.Run(fmt.Sprintf("%d/%d", bits, permille), func(t *testing.T) {
				l := newLab(t, bits)
				l.lose(t, permille)
				found, others := l.find(t, errand{})
				if permille == 0 {
					check(t, found, all())
				} else {
					found = only4(found)
				}
				if permille == 200 && len(found) < machines { // chance may have it so, one time in a hundred
					found, others = l.find(t, errand{})
				}
				check(t, only4(found), all4())
				if len(others) != 1 || others[0] != (line{Done: true}) {
					t.Errorf("Find said %+v", others)
				}
			})
		}
	}
}

// TestNeighborTable wants those with an open port entered, nobody else, and an
// administrator's entry kept.
func TestNeighborTable(t *testing.T) {
	l := newLab(t, 24)
	l.in(t, "ws", "ip neigh add 10.77.0.11 lladdr 02:00:00:00:00:99 dev eth0 nud permanent")
	l.drop(t, "ws", "arp", "output", "drop") // what the kernel knows it knows from us
	found, _ := l.find(t, errand{})
	check(t, only4(found), all4())
	table := l.in(t, "ws", "ip -4 neigh show dev eth0")
	if !strings.Contains(table, "10.77.0.11 lladdr 02:00:00:00:00:99 PERMANENT") {
		t.Errorf("the permanent entry is gone:\n%s", table)
	}
	for i := 1; i < machines; i++ {
		if !strings.Contains(table, machineAddr(i)+" lladdr "+machineMAC(i)) {
			t.Errorf("%s was not entered:\n%s", machineAddr(i), table)
		}
	}
	if n := strings.Count(table, "\n"); n != machines {
		t.Errorf("%d entries, want %d:\n%s", n, machines, table)
	}
}

// TestNoHalfOpen wants no connection left half open behind a firewall that
// keeps answers to unknown SYNs from the kernel.
func TestNoHalfOpen(t *testing.T) {
	l := newLab(t, 24)
	l.drop(t, "ws", "ip", "input", "ct state established,related accept; meta l4proto tcp drop")
	found, _ := l.find(t, errand{})
	check(t, only4(found), all4())
	for i := range machines {
		if out := l.in(t, l.name(i), "ss -Htn state syn-recv"); strings.TrimSpace(out) != "" {
			t.Errorf("left at %s: %s", machineAddr(i), out)
		}
	}
}

func TestUnprivileged(t *testing.T) {
	const nobody = 65534
	for _, permille := range []int{0, 50} {
		t.Run(fmt.Sprint(permille), func(t *testing.T) {
			l := newLab(t, 24)
			l.lose(t, permille)
			l.mayPing(t, "ws", "1 0")
			found, others := l.find(t, errand{UID: nobody})
			check(t, found, all4()) // without the right to ask for an echo there is no IPv6
			if len(others) != 2 || !others[0].Hint || others[1] != (line{Done: true}) {
				t.Errorf("Find said %+v, want one call of Fallback", others)
			}
		})
	}
	t.Run("large", func(t *testing.T) {
		l := newLab(t, 16)
		found, others := l.find(t, errand{UID: nobody, Prefixes: []netip.Prefix{netip.MustParsePrefix("10.77.0.0/20")}})
		if len(only4(found)) != 0 || len(others) != 2 || !others[1].TooLarge {
			t.Errorf("found %v, Find said %+v, want a refusal", found, others)
		}
		l.in(t, "ws", "ip neigh add 10.77.0.12 lladdr "+machineMAC(1)+" dev eth0 nud stale")
		found, _ = l.find(t, errand{UID: nobody})
		check(t, only4(found), map[string][]string{"10.77.0.12:22": {machineMAC(1)}}) // the kernel knows it
	})
}

// TestTooLarge wants a clear error for the interface's own large network, and
// the network swept if it is named.
func TestTooLarge(t *testing.T) {
	l := newLab(t, 16)
	found, others := l.find(t, errand{})
	check(t, found, all6())
	if len(others) != 1 || !others[0].TooLarge || !strings.Contains(others[0].Error, `"10.77.0.0/16"`) {
		t.Errorf("Find said %+v", others)
	}
	found, others = l.find(t, errand{Prefixes: []netip.Prefix{netip.MustParsePrefix("10.77.0.0/25")}})
	check(t, only4(found), all4())
	if others[0].Error != "" {
		t.Errorf("Find said %+v", others)
	}
	_, others = l.find(t, errand{Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	if len(others) != 1 || !others[0].TooLarge {
		t.Errorf("Find said %+v to a /8", others)
	}
}

// TestUnasked wants to be told how much of a network a short time left out, and
// how long a whole sweep takes.
func TestUnasked(t *testing.T) {
	const nobody = 65534
	l := newLab(t, 22) // 1,021 addresses beside our own
	for _, tt := range []struct {
		name        string
		e           errand
		least, most int // unasked; one not asked for at least is none
	}{
		{"raw", errand{Rate: 1, Timeout: 300 * time.Millisecond}, 500, 1021 - 64},
		{"unprivileged", errand{UID: nobody, Timeout: 500 * time.Millisecond}, 1021 - 400, 1021 - 400},
		{"a watch", errand{Rate: 1, Every: time.Hour, Timeout: 300 * time.Millisecond}, 0, 0},
		{"enough time", errand{Timeout: time.Minute}, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, others := l.find(t, tt.e)
			tt.e.Do = "duration"
			want, _ := l.start(t, "ws", tt.e).next(t)
			end := others[len(others)-1]
			if end.Unasked < tt.least || end.Unasked > tt.most {
				t.Errorf("%d addresses were not asked, want %d to %d", end.Unasked, tt.least, tt.most)
			}
			if end.Unasked > 0 && (end.Takes != want.Takes || !strings.Contains(end.Error, fmt.Sprintf("\ngive --timeout %v", want.Takes))) {
				t.Errorf("Find said %+v, want a hint to %v", end, want.Takes)
			}
			if end.Unasked == 0 && end.Error != "" {
				t.Errorf("Find said %q", end.Error)
			}
		})
	}
}

// TestDuration depends on the networks, the rate and the privilege.
func TestDuration(t *testing.T) {
	const nobody = 65534
	l := newLab(t, 16)
	all := []netip.Prefix{netip.MustParsePrefix("10.77.0.0/16")}
	part := []netip.Prefix{netip.MustParsePrefix("10.77.0.0/22")}
	for _, tt := range []struct {
		name string
		e    errand
		want time.Duration
	}{
		{"too large to be swept", errand{}, 3 * time.Second}, // the echo alone
		{"all", errand{Prefixes: all}, 21 * time.Second},
		{"all, slowly", errand{Prefixes: all, Rate: 1000}, 198 * time.Second},
		{"part", errand{Prefixes: part}, 3 * time.Second},
		{"part, unprivileged", errand{Prefixes: part, UID: nobody}, 13 * time.Second},
	} {
		tt.e.Do = "duration"
		if got, _ := l.start(t, "ws", tt.e).next(t); got.Takes != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got.Takes, tt.want)
		}
	}
}

// TestLingerHoldsNothingBack wants all that is there while a sweep still waits
// for late answers, which it does for an hour.
func TestLingerHoldsNothingBack(t *testing.T) {
	for _, uid := range []int{0, 65534} {
		t.Run(fmt.Sprint("uid ", uid), func(t *testing.T) {
			l := newLab(t, 24)
			l.mayPing(t, "ws", "0 2147483647")
			r := l.start(t, "ws", errand{Do: "find", Linger: time.Hour, UID: uid})
			found := make(map[string][]string)
			for len(found) < len(all()) {
				n, ok := r.next(t)
				if !ok || n.Done {
					t.Fatalf("ended with %v: %+v", found, n)
				}
				if n.Addr != "" {
					found[n.Addr] = append(found[n.Addr], n.MAC)
				}
			}
			check(t, found, all())
			r.stop()
		})
	}
}

// TestLinkLocal is a cable between two machines and nobody who gives out
// addresses; once with the right to ask for an echo, once as root without it.
func TestLinkLocal(t *testing.T) {
	l := newLab(t, 24)
	l.in(t, "ws", "ip addr del 10.77.0.1/24 dev eth0")
	l.mayPing(t, "ws", "1 0")
	found, _ := l.find(t, errand{})
	check(t, found, all6())
	l.mayPing(t, "ws", "0 2147483647")
	found, _ = l.find(t, errand{UID: 65534})
	check(t, found, all6())
}

// TestWatch sees a machine that comes up later: by what it asks others, even if
// it hears no request, and, where it asks nothing, by the next sweep.
func TestWatch(t *testing.T) {
	for _, tt := range []struct {
		name  string
		every time.Duration
		deaf  string // what the machine does not hear
		does  string
	}{
		{"asks", time.Hour, "arp operation request drop", "ip neigh add 10.77.0.1 dev eth0 use nud none"},
		{"silent", 300 * time.Millisecond, "", "true"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t, 24)
			l.machine(t, machines)
			l.drop(t, l.name(machines), "arp", "input", tt.deaf)
			r := l.start(t, "ws", errand{Do: "find", Every: tt.every})
			for i := range machines { // all are there: the first sweep is done with them
				r = awaitAny(t, r, i)
			}
			l.in(t, l.name(machines), "ip link set eth0 up")
			l.in(t, l.name(machines), tt.does)
			if got := r.await(t, machineAddr(machines)+":22"); got.MAC != machineMAC(machines) {
				t.Errorf("found %+v, want MAC %s", got, machineMAC(machines))
			}
			r.stop()
			for {
				last, ok := r.next(t)
				if !ok {
					t.Fatal("ended without a word")
				}
				if last.Done {
					if last.Error != "" {
						t.Errorf("Find said %q when its context was done", last.Error)
					}
					break
				}
			}
		})
	}
}

// awaitAny reads the next IPv4 candidate.
func awaitAny(t *testing.T, r *runner, i int) *runner {
	t.Helper()
	for {
		l, ok := r.next(t)
		if !ok || l.Done {
			t.Fatalf("ended after %d machines: %+v", i, l)
		}
		if !strings.HasPrefix(l.Addr, "[") {
			return r
		}
	}
}

// TestTwoMACs is an address that two machines have, or one and an impostor.
func TestTwoMACs(t *testing.T) {
	l := newLab(t, 24)
	l.in(t, l.name(1), "ip addr add 10.77.0.11/24 dev eth0")
	found, _ := l.find(t, errand{})
	want := all4()
	want["10.77.0.11:22"] = []string{machineMAC(0), machineMAC(1)}
	slices.Sort(found["10.77.0.11:22"])
	check(t, only4(found), want)
}

// TestNoise finds the same beside a host that sends garbage and lies.
func TestNoise(t *testing.T) {
	l := newLab(t, 24)
	r := l.start(t, "crowd", errand{Do: "noise"})
	if _, ok := r.next(t); !ok {
		t.Fatal("no noise")
	}
	found, others := l.find(t, errand{})
	check(t, found, all())
	if len(others) != 1 || others[0] != (line{Done: true}) {
		t.Errorf("Find said %+v", others)
	}
	r.stop()
}

func TestInterfaces(t *testing.T) {
	l := newLab(t, 24)
	for _, name := range []string{"docker0", "wg0", "tailscale0", "br-12ab", "lan7", "down0"} {
		l.in(t, "ws", "ip link add "+name+" type bridge")
		l.in(t, "ws", "ip link set "+name+" up")
		l.in(t, "ws", "ip addr add 192.0.2.1/24 dev "+name)
	}
	l.in(t, "ws", "ip link set down0 down")
	r := l.start(t, "ws", errand{Do: "interfaces"})
	var names []string
	for {
		n, ok := r.next(t)
		if !ok {
			break
		}
		names = append(names, n.Addr+n.Error)
	}
	slices.Sort(names)
	if want := []string{"eth0", "lan7"}; !slices.Equal(names, want) {
		t.Errorf("Interfaces() = %q, want %q", names, want)
	}
}
