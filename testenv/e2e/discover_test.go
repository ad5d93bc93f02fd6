package e2e

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/nixctl/nixctl/testenv/lab"
)

// TestDiscover: verified machines by name, strangers only when asked for, and what
// each says on its own screen.
func TestDiscover(t *testing.T) {
	t.Parallel()
	b := newLab(t)
	b.want(b.run(3, "discover").stderr, "no verified installer", "nixctl keys new")

	shared := b.hostKey("installer")
	foreign, err := b.ForeignKey("web1")
	if err != nil {
		t.Fatal(err)
	}
	b.hostKey("web1")
	var guests []*lab.Guest
	for _, s := range []lab.Spec{
		{Name: "one", Kind: lab.Micro, HostKey: shared},
		{Name: "two", Kind: lab.Micro, HostKey: shared},
		{Name: "web1", Kind: lab.Micro, HostKey: foreign}, // claims to be web1 and is not
		{Name: "full", Kind: lab.Lite, HostKey: b.hostKey("full")},
	} {
		guests = append(guests, b.start(s))
	}
	for _, g := range guests {
		b.up(g)
	}

	type row struct {
		Name     string
		Verified bool
		HostKey  string `json:"host_key"`
		Words    string
		MAC      string
		Vendor   string
		Via      []string
		Claim    *struct{ Name string }
	}
	rows := func(args ...string) map[string]row {
		out := make(map[string]row)
		for l := range strings.Lines(b.run(0, append([]string{"discover", "--json", "--timeout", "6s"}, args...)...).stdout) {
			var r row
			if err := json.Unmarshal([]byte(l), &r); err != nil {
				t.Fatalf("line %q: %v", l, err)
			}
			out[r.MAC] = r
		}
		return out
	}
	verified := rows()
	for _, g := range guests {
		r, ok := verified[g.MAC]
		if want := g.Name != "web1"; ok != want {
			t.Errorf("%s listed: %v, want %v", g.Name, ok, want)
		}
		if ok && (!r.Verified || r.Vendor != "QEMU/KVM" || len(r.Via) != 2) {
			t.Errorf("%s is %+v, want it verified, found by ARP and mDNS", g.Name, r)
		}
	}
	if r := verified[guests[0].MAC]; r.Name != "installer" {
		t.Errorf("name %q, want that of the identity", r.Name)
	}
	all := rows("--all")
	if r, ok := all[guests[2].MAC]; !ok || r.Verified || r.Name != "web1?" {
		t.Errorf("the stranger is %+v, want it unverified, its claim marked", r)
	}

	full := guests[3]
	known, err := full.KnownHosts()
	if err != nil {
		t.Fatal(err)
	}
	out, err := full.SSH(t.Context(), known, "nixctl-agent", "status").CombinedOutput()
	if err != nil {
		t.Fatalf("nixctl-agent status: %v\n%s", err, out)
	}
	b.want(string(out), verified[full.MAC].Words, verified[full.MAC].HostKey)
	b.run(4, "show", "web1")
}
