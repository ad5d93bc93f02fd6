//go:build linux

package lan

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// SetLeases makes the DHCP server hand out first to last, having forgotten all
// leases: a machine that asks again gets another address, as after a change
// of routers.
func (l *LAN) SetLeases(ctx context.Context, first, last netip.Addr) error {
	if err := endProcesses(l.namespace("dhcp")); err != nil {
		return err
	}
	if err := os.RemoveAll(l.leases()); err != nil {
		return err
	}
	// dnsmasq goes into the background once it serves.
	return feed(l.command(ctx, "dhcp", "dnsmasq", "--conf-file=/dev/null", "--user=root", "--port=0", "--pid-file",
		"--interface=eth0", "--bind-interfaces", "--no-ping", "--dhcp-authoritative",
		fmt.Sprintf("--dhcp-range=%s,%s,1h", first, last),
		fmt.Sprintf("--dhcp-option=option:router,%s", l.Workstation()),
		"--dhcp-leasefile="+l.leases(), "--log-dhcp", "--log-facility="+filepath.Join(l.Dir(), "dhcp.log")), "")
}

func (l *LAN) leases() string { return filepath.Join(l.Dir(), "leases") }

// Lease returns the address that the machine with that MAC (in lower case) has
// been given, and whether there is one.
func (l *LAN) Lease(mac string) (netip.Addr, bool) {
	b, err := os.ReadFile(l.leases())
	if err != nil {
		return netip.Addr{}, false
	}
	return findLease(string(b), mac)
}

// findLease reads dnsmasq's lease file, lines of expiry time, MAC, address,
// host name, client id. The last line wins.
func findLease(leases, mac string) (addr netip.Addr, found bool) {
	for line := range strings.Lines(leases) {
		f := strings.Fields(line)
		if len(f) < 3 || f[1] != mac {
			continue
		}
		if a, err := netip.ParseAddr(f[2]); err == nil {
			addr, found = a, true
		}
	}
	return addr, found
}
