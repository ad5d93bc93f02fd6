package survey

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/nixctl/nixctl/discovery"
)

// A machine with many addresses takes no more than its share, however early it
// was; one that ends its checks goes on.
func TestQueue(t *testing.T) {
	tests := []struct {
		name string
		add  string // a letter is a candidate of that MAC, "." one without
		want string // what may start at once
		done string // what ends then
		then string // what may start now
	}{
		{"nothing", "", "", "", ""},
		{"one each", "abc", "abc", "abc", ""},
		{"turns", "aaabbc", "abcaba", "", ""},
		{"a share", strings.Repeat("a", 20), strings.Repeat("a", 8), "aaa", "aaa"},
		{"the late one", strings.Repeat("a", 100) + "b", "ab" + strings.Repeat("a", 7), "b", ""},
		{"no MAC", strings.Repeat(".", 100), strings.Repeat(".", 32), ".", "."},
		{"all there is", strings.Repeat("abcdefghij", 10), strings.Repeat("abcdefghij", 6) + "abcd", "aj", "ef"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := queue{lanes: make(map[string]*lane)}
			mac := func(r rune) string { return strings.Trim(string(r), ".") }
			start := func() string {
				var out strings.Builder
				for c, ok := q.next(); ok; c, ok = q.next() {
					fmt.Fprint(&out, c.MAC)
					if c.MAC == "" {
						fmt.Fprint(&out, ".")
					}
				}
				return out.String()
			}
			for _, r := range tt.add {
				q.add(discovery.Candidate{MAC: mac(r)})
			}
			if got := start(); got != tt.want {
				t.Errorf("started %q, want %q", got, tt.want)
			}
			for _, r := range tt.done {
				q.done(discovery.Candidate{MAC: mac(r)})
			}
			if got := start(); got != tt.then {
				t.Errorf("started %q then, want %q", got, tt.then)
			}
		})
	}
}

// What is put in comes out once, in order for each machine, and leaves nothing.
func TestQueueEnds(t *testing.T) {
	q := queue{lanes: make(map[string]*lane)}
	const each = 3 * parallel
	for i := range uint16(each) {
		for _, mac := range []string{"a", "b", ""} {
			q.add(discovery.Candidate{MAC: mac, Addr: netip.AddrPortFrom(netip.Addr{}, i)})
		}
	}
	got := make(map[string][]uint16)
	var running []discovery.Candidate
	for c, ok := q.next(); ok || len(running) > 0; c, ok = q.next() {
		if ok {
			got[c.MAC] = append(got[c.MAC], c.Addr.Port())
			running = append(running, c)
			continue
		}
		q.done(running[0])
		running = running[1:]
	}
	for mac, ports := range got {
		if len(ports) != each || !slices.IsSorted(ports) {
			t.Errorf("of %q came %v", mac, ports)
		}
	}
	if len(got) != 3 || len(q.lanes) != 0 || len(q.ready) != 0 || q.running != 0 {
		t.Errorf("left %+v", q)
	}
}
