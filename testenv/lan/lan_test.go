//go:build linux

package lan

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// network makes a LAN that ends with the test.
func network(t *testing.T, c Config) *LAN {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	for _, tool := range []string{"ip", "nft", "dnsmasq", "ssh-keygen", "ssh-keyscan", "busybox"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s", tool)
		}
	}
	l, err := New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// run runs a command on the workstation and returns what it prints.
func run(t *testing.T, l *LAN, argv ...string) string {
	t.Helper()
	out, err := l.Command(t.Context(), argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Logf("%v: %v", argv, err)
	}
	return string(out)
}

// server adds a server at the n-th address and returns its public key.
func server(t *testing.T, l *LAN, n int, mac string) string {
	t.Helper()
	key := filepath.Join(l.Dir(), fmt.Sprintf("key%d", n))
	must(t, exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).Run())
	must(t, l.AddServer(t.Context(), Server{Addr: l.Host(n), MAC: mac, HostKey: key}))
	pub, err := os.ReadFile(key + ".pub")
	must(t, err)
	return strings.Join(strings.Fields(string(pub))[:2], " ")
}

func TestServers(t *testing.T) {
	l := network(t, Config{})
	const mac = "dc:a6:32:00:00:11"
	one, two := server(t, l, 11, mac), server(t, l, 12, "")
	for n, key := range map[int]string{11: one, 12: two} {
		scanned := run(t, l, "ssh-keyscan", "-t", "ed25519", l.Host(n).String())
		if !strings.Contains(scanned, key) {
			t.Errorf("server %d shows %q, want %q", n, scanned, key)
		}
	}
	if neighbours := run(t, l, "ip", "neighbour"); !strings.Contains(neighbours, mac) {
		t.Errorf("neighbours %q lack the server's MAC %s", neighbours, mac)
	}
	// All nodes on the link answer: two servers and the DHCP server.
	if out := run(t, l, "busybox", "ping", "-6", "-c", "1", "-W", "5", "ff02::1%eth0"); !strings.Contains(out, "1 packets received") {
		t.Errorf("no answer to IPv6 multicast: %s", out)
	}
	err := l.AddServer(t.Context(), Server{Addr: l.Host(13), HostKey: "/nowhere/key"})
	if err == nil || !strings.Contains(err.Error(), "/nowhere/key") {
		t.Errorf("server without a key: %v", err)
	}
}

func TestDefaultRoute(t *testing.T) {
	for _, without := range []bool{false, true} {
		l := network(t, Config{NoDefaultRoute: without})
		if got := !strings.Contains(run(t, l, "ip", "route"), "default"); got != without {
			t.Errorf("no default route: %v, want %v", got, without)
		}
	}
}

func TestBadNetwork(t *testing.T) {
	network(t, Config{}) // skips where no LAN can be made
	for _, n := range []string{"fd00::/64", "10.213.0.0/25"} {
		if l, err := New(t.Context(), Config{Network: netip.MustParsePrefix(n)}); err == nil {
			t.Errorf("%s was accepted", n)
			l.Close()
		}
	}
}

func TestHosts(t *testing.T) {
	l := network(t, Config{Network: netip.MustParsePrefix("10.213.0.0/16")})
	all := netip.PrefixFrom(l.Host(0x0180), 25)
	silent := netip.PrefixFrom(l.Host(0x01f0), 28)
	must(t, l.AddHosts(t.Context(), silent, all))
	if out := run(t, l, "busybox", "ping", "-c", "1", "-W", "5", l.Host(0x01ff).String()); !strings.Contains(out, "1 packets received") {
		t.Errorf("no answer to ping: %s", out)
	}
	_, err := l.Dial(t.Context(), netip.AddrPortFrom(l.Host(0x0181), 22))
	if err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("dial a host: %v, want refused", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := l.Dial(ctx, netip.AddrPortFrom(l.Host(0x01f1), 22)); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("dial a silent host: %v, want no answer", err)
	}
}

func TestLoss(t *testing.T) {
	l := network(t, Config{})
	must(t, l.AddHosts(t.Context(), netip.Prefix{}, netip.PrefixFrom(l.Host(20), 32)))
	for _, tt := range []struct {
		percent float64
		min     int
		max     int
	}{
		{0, 100, 100},
		{50, 1, 99}, // a quarter gets through both ways; all or none would be a wonder
		{100, 0, 0},
		{0, 100, 100},
	} {
		must(t, l.SetLoss(t.Context(), tt.percent))
		out := run(t, l, "busybox", "ping", "-c", "100", "-i", "0.002", "-W", "1", l.Host(20).String())
		var received int
		_, counts, _ := strings.Cut(out, "100 packets transmitted, ")
		if _, err := fmt.Sscanf(counts, "%d packets received", &received); err != nil || received < tt.min || received > tt.max {
			t.Errorf("loss %g: %d received, %v; want %d to %d", tt.percent, received, err, tt.min, tt.max)
		}
	}
	if err := l.SetLoss(t.Context(), 101); err == nil {
		t.Error("101 percent loss was accepted")
	}
}

// client gets a lease and prints the address, in a machine of its own.
func client(t *testing.T, l *LAN, role string) string {
	t.Helper()
	script := filepath.Join(l.Dir(), "udhcpc")
	must(t, os.WriteFile(script, []byte("#!/bin/sh\n[ \"$1\" = bound ] && echo \"$ip\" \"$router\"\nexit 0\n"), 0o700))
	out, err := l.command(t.Context(), role, "busybox", "udhcpc", "-f", "-n", "-q", "-t", "20", "-T", "1", "-i", "eth0", "-s", script).Output()
	must(t, err)
	return strings.TrimSpace(string(out))
}

func TestDHCP(t *testing.T) {
	l := network(t, Config{})
	const mac = "52:54:00:00:00:77"
	must(t, l.addMachine(t.Context(), "client", netip.Addr{}, mac))
	if addr, ok := l.Lease(mac); ok {
		t.Errorf("lease %s before anybody asked", addr)
	}
	for _, n := range []int{150, 160} {
		must(t, l.SetLeases(t.Context(), l.Host(n), l.Host(n)))
		want := fmt.Sprintf("%s %s", l.Host(n), l.Workstation())
		if got := client(t, l, "client"); got != want {
			t.Errorf("address and router %q, want %q", got, want)
		}
		if addr, ok := l.Lease(mac); !ok || addr != l.Host(n) {
			t.Errorf("lease %s, %v; want %s", addr, ok, l.Host(n))
		}
	}
}

func TestTap(t *testing.T) {
	l := network(t, Config{})
	one, err := l.Tap(t.Context())
	must(t, err)
	two, err := l.Tap(t.Context())
	must(t, err)
	argv := append(l.Switch(), "ip", "-o", "link", "show", "master", "br0")
	out, err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).Output()
	must(t, err)
	if s := string(out); one == two || !strings.Contains(s, one+":") || !strings.Contains(s, two+":") {
		t.Errorf("taps %q and %q, on the bridge: %s", one, two, s)
	}
}

// TestClose checks that nothing of a LAN stays, beside one that lives on.
func TestClose(t *testing.T) {
	other := network(t, Config{})
	l := network(t, Config{})
	server(t, l, 11, "")
	cmd := l.Command(t.Context(), "sleep", "1000")
	must(t, cmd.Start())
	must(t, l.Close())
	if err := cmd.Wait(); err == nil {
		t.Error("a process on the workstation was not ended")
	}
	if left := leftovers(l.id); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	if len(leftovers(other.id)) == 0 {
		t.Error("the other LAN is gone")
	}
	server(t, other, 11, "")
}

func leftovers(id int) (found []string) {
	for _, pattern := range []string{fmt.Sprintf(netnsDir+"/nxl-%d-*", id), workDir(id), stateFile(id)} {
		f, _ := filepath.Glob(pattern)
		found = append(found, f...)
	}
	return found
}

// TestSweep kills the owner of a LAN.
func TestSweep(t *testing.T) {
	if os.Getenv("LAN_TEST_OWNER") != "" { // we are that owner
		l, err := New(t.Context(), Config{})
		must(t, err)
		server(t, l, 11, "")
		fmt.Printf("lab %d\n", l.id)
		select {}
	}
	living := network(t, Config{})
	owner := exec.Command(os.Args[0], "-test.run=^TestSweep$")
	owner.Env = append(os.Environ(), "LAN_TEST_OWNER=1")
	out, err := owner.StdoutPipe()
	must(t, err)
	must(t, owner.Start())
	var id int
	_, err = fmt.Fscanf(out, "lab %d\n", &id)
	must(t, err)
	must(t, Sweep())
	if len(leftovers(id)) == 0 {
		t.Fatal("Sweep removed a LAN whose owner lives")
	}
	must(t, owner.Process.Kill())
	owner.Wait()
	must(t, Sweep())
	if left := leftovers(id); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	server(t, living, 11, "")
}

func FuzzFindLease(f *testing.F) {
	f.Add("1795305600 52:54:00:00:00:01 10.213.1.100 * 01:52\n1 52:54:00:00:00:01 10.213.1.101\nduid x\n", "52:54:00:00:00:01")
	f.Add("1 m x", "m")
	f.Fuzz(func(t *testing.T, leases, mac string) {
		addr, found := findLease(leases, mac)
		if found != addr.IsValid() || found && !strings.Contains(leases, mac) {
			t.Errorf("%s, %v", addr, found)
		}
	})
}

func TestFindLease(t *testing.T) {
	const leases = "1 aa 10.0.0.1 * *\n2 bb 10.0.0.2 * *\n3 aa 10.0.0.3 * *\n4 aa damaged"
	if a, ok := findLease(leases, "aa"); !ok || a != netip.MustParseAddr("10.0.0.3") {
		t.Errorf("lease %s, %v; want the last valid one", a, ok)
	}
}
