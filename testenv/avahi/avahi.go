// Package avahi gives tests a LAN of network namespaces with the real avahi on
// it. It needs root, iproute2, avahi-daemon, avahi-utils and dbus-daemon.
package avahi

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// Require skips the test where it cannot run.
func Require(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root to make network namespaces")
	}
	for _, tool := range []string{"ip", "dbus-daemon", "avahi-daemon", "avahi-browse", "avahi-publish"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %q: apt install iproute2 dbus avahi-daemon avahi-utils", tool)
		}
	}
}

// serial tells the namespaces of one test binary apart.
var serial atomic.Int32

// A LAN is a switch in a namespace of its own.
type LAN struct {
	t     testing.TB
	name  string
	ports int
}

// New makes a LAN that lives as long as the test.
func New(t testing.TB) *LAN {
	t.Helper()
	Require(t)
	l := &LAN{t: t, name: namespace(t, "lan")}
	ip(t, "-n", l.name, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
	ip(t, "-n", l.name, "link", "set", "br0", "up")
	return l
}

// namespace makes a network namespace with loopback up.
func namespace(t testing.TB, name string) string {
	t.Helper()
	name = fmt.Sprintf("nxmdns-%d-%d-%s", os.Getpid(), serial.Add(1), name)
	ip(t, "netns", "add", name)
	t.Cleanup(func() { exec.Command("ip", "netns", "del", name).Run() })
	ip(t, "-n", name, "link", "set", "lo", "up")
	return name
}

// A Host is a machine: a network namespace.
type Host struct {
	t         testing.TB
	Namespace string
	env       []string // how to reach its avahi
}

// Sysctl sets a kernel parameter of h, such as "net.ipv6.conf.all.disable_ipv6=1".
func (h *Host) Sysctl(setting string) {
	h.t.Helper()
	h.Start(nil, "sysctl", "-w", setting).End()
}

// Machine makes a host without any network card.
func Machine(t testing.TB, name string) *Host {
	t.Helper()
	Require(t)
	return &Host{t: t, Namespace: namespace(t, name)}
}

// Host makes a host that is plugged in with eth0 and has the given addresses,
// such as "10.77.0.1/24", and no default route.
func (l *LAN) Host(name string, addresses ...string) *Host {
	l.t.Helper()
	h := Machine(l.t, name)
	l.Plug(h, "eth0", addresses...)
	return h
}

// Plug gives h a card with a cable to the LAN.
func (l *LAN) Plug(h *Host, card string, addresses ...string) {
	l.t.Helper()
	l.ports++
	port := fmt.Sprintf("port%d", l.ports)
	ip(l.t, "-n", l.name, "link", "add", port, "type", "veth", "peer", "name", card, "netns", h.Namespace)
	ip(l.t, "-n", l.name, "link", "set", port, "master", "br0", "up")
	for _, a := range addresses {
		h.IP("address", "add", a, "dev", card)
	}
	h.IP("link", "set", card, "up")
}

// IP runs the ip command on h.
func (h *Host) IP(args ...string) string {
	h.t.Helper()
	return ip(h.t, append([]string{"-n", h.Namespace}, args...)...)
}

// MAC is the hardware address of a card.
func (h *Host) MAC(card string) string {
	h.t.Helper()
	fields := strings.Fields(h.IP("-o", "link", "show", card))
	for i, f := range fields[:len(fields)-1] {
		if f == "link/ether" {
			return fields[i+1]
		}
	}
	h.t.Fatalf("%s has no hardware address: %q", card, fields)
	return ""
}

func ip(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Avahi starts avahi-daemon on h, with a message bus of its own.
func (h *Host) Avahi() {
	h.t.Helper()
	dir, err := os.MkdirTemp("", "nxmdns-")
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "bus")
	write(h.t, filepath.Join(dir, "dbus.conf"), `<busconfig><listen>unix:path=`+socket+`</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`)
	write(h.t, filepath.Join(dir, "avahi.conf"), "[server]\nhost-name="+h.Namespace+"\nuse-ipv4=yes\nuse-ipv6=yes\nratelimit-interval-usec=0\n[publish]\npublish-workstation=no\n")
	bus := h.Start(nil, "dbus-daemon", "--config-file="+filepath.Join(dir, "dbus.conf"), "--nofork", "--nopidfile", "--print-address")
	bus.Await("unix:path")
	h.env = []string{"DBUS_SYSTEM_BUS_ADDRESS=unix:path=" + socket}
	// Its own /run, for avahi-daemon has a fixed place for its PID file. The mount
	// is private: ip netns exec makes a mount namespace.
	h.Start(nil, "sh", "-c", `mount -t tmpfs tmpfs /run && exec avahi-daemon --no-drop-root --no-chroot --no-rlimits -f "$0" 2>&1`,
		filepath.Join(dir, "avahi.conf")).Await("Server startup complete")
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
