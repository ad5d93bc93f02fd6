//go:build linux

// Package lan makes local networks out of network namespaces, for tests that
// need real ARP, multicast, DHCP and packet loss without touching the
// workstation's own network.
//
// A [LAN] is a switch with a workstation and a DHCP server on it. Guests are
// plugged in by [LAN.Tap], further machines by [LAN.AddServer] and
// [LAN.AddHosts]:
//
//	nxl-<id>-lan    the switch: bridge br0, tap devices; QEMU runs here
//	nxl-<id>-ws     the workstation: eth0 with the network's first address
//	nxl-<id>-dhcp   dnsmasq, with the second address
//	nxl-<id>-...    servers and hosts
//
// Everything is removed by [LAN.Close], or by [Sweep] at the next start if its
// owner was killed. It all needs root.
package lan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// A Config describes a LAN. The zero value is a usable one.
type Config struct {
	// Network is an IPv4 network, a /24 or bigger; 10.213.<id>.0/24 if not set.
	// Since it exists in namespaces only, it cannot collide with a real one.
	Network netip.Prefix

	// NoDefaultRoute leaves the workstation without one. Multicast then goes
	// only where a program names the interface.
	NoDefaultRoute bool
}

// A LAN is a running network. Its methods may be called from several
// goroutines.
type LAN struct {
	id      int
	network netip.Prefix
	close   func() error

	mu    sync.Mutex // guards the numbering of ports
	ports int
}

// New makes a LAN after removing what killed owners have left behind.
func New(ctx context.Context, c Config) (*LAN, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("make a LAN: network namespaces need root")
	}
	if c.Network.IsValid() && (!c.Network.Addr().Is4() || c.Network.Bits() > 24) {
		return nil, fmt.Errorf("make a LAN: %q is no IPv4 network of 256 addresses or more", c.Network)
	}
	if err := Sweep(); err != nil {
		return nil, err
	}
	id, lock, err := claim()
	if err != nil {
		return nil, err
	}
	l := &LAN{id: id, network: c.Network.Masked()}
	l.close = sync.OnceValue(func() error { return errors.Join(remove(id), lock.Close()) })
	if !c.Network.IsValid() {
		l.network = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 213, byte(id), 0}), 24)
	}
	if err := l.build(ctx, c); err != nil {
		return nil, errors.Join(fmt.Errorf("make a LAN: %w", err), l.Close())
	}
	return l, nil
}

func (l *LAN) build(ctx context.Context, c Config) error {
	if err := os.Mkdir(l.Dir(), 0o700); err != nil {
		return err
	}
	// The switch has no address of its own, so that it is not one more machine,
	// and floods multicast (no snooping: nobody here queries for groups).
	if err := l.addNamespace(ctx, "lan", setting{"ipv6/conf/default/disable_ipv6", "1"}); err != nil {
		return err
	}
	err := l.ip(ctx, "lan", "link add br0 type bridge mcast_snooping 0 stp_state 0", "link set br0 up")
	if err != nil {
		return err
	}
	if err := l.addMachine(ctx, "ws", l.Workstation(), ""); err != nil {
		return err
	}
	if !c.NoDefaultRoute {
		if err := l.ip(ctx, "ws", "route add default dev eth0"); err != nil {
			return err
		}
	}
	if err := l.addMachine(ctx, "dhcp", l.Workstation().Next(), ""); err != nil {
		return err
	}
	return l.SetLeases(ctx, l.Host(100), l.Host(199))
}

// Close ends every process in the LAN and removes all of it. More calls do
// nothing more.
func (l *LAN) Close() error { return l.close() }

// Dir is a private folder that is removed with the LAN.
func (l *LAN) Dir() string { return workDir(l.id) }

// Network is the LAN's address range.
func (l *LAN) Network() netip.Prefix { return l.network }

// Host is the n-th address of the network, for n up to 65535. 1 is the
// workstation, 2 the DHCP server, 100 to 199 are leased unless SetLeases says
// otherwise.
func (l *LAN) Host(n int) netip.Addr {
	a := l.network.Addr().As4()
	a[2] += byte(n >> 8)
	a[3] += byte(n)
	return netip.AddrFrom4(a)
}

// Workstation is the workstation's address.
func (l *LAN) Workstation() netip.Addr { return l.Host(1) }

// Switch is the command that runs QEMU where the tap devices are; its
// arguments follow.
func (l *LAN) Switch() []string { return enter(l.namespace("lan")) }

// Command is a command run on the workstation.
func (l *LAN) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return l.command(ctx, "ws", name, args...)
}

func (l *LAN) command(ctx context.Context, role, name string, args ...string) *exec.Cmd {
	argv := append(enter(l.namespace(role)), append([]string{name}, args...)...)
	return exec.CommandContext(ctx, argv[0], argv[1:]...)
}

// InNamespace calls f on the workstation: sockets that f itself opens are
// there, those of goroutines it starts are not. Child processes must be
// started by Command.
func (l *LAN) InNamespace(f func() error) error { return within(l.namespace("ws"), f) }

// Dial connects from the workstation to an address without names to resolve.
func (l *LAN) Dial(ctx context.Context, addr netip.AddrPort) (c net.Conn, err error) {
	err = l.InNamespace(func() error {
		c, err = new(net.Dialer).DialContext(ctx, "tcp", addr.String())
		return err
	})
	return c, err
}

// Tap adds a tap device to the switch, for a guest's network card.
func (l *LAN) Tap(ctx context.Context) (string, error) {
	tap := fmt.Sprintf("tap%d", l.nextPort())
	return tap, l.ip(ctx, "lan", "tuntap add "+tap+" mode tap", "link set "+tap+" master br0 up")
}

// SetLoss makes the switch lose that many percent of the frames in each
// direction; 0 ends it. The loss is in the switch and not at an interface,
// where packet sockets would still see the lost frames.
func (l *LAN) SetLoss(ctx context.Context, percent float64) error {
	if percent < 0 || percent > 100 {
		return fmt.Errorf("loss of %g percent: use 0 to 100", percent)
	}
	rules := "table bridge loss\ndelete table bridge loss\n" // the first line, so that there is one to delete
	some := fmt.Sprintf("numgen random mod 1000 < %d", int(percent*10))
	if percent == 100 {
		some = "" // nft refuses a comparison that is always true
	}
	if percent > 0 {
		rules += "table bridge loss {\nchain c {\ntype filter hook forward priority 0\n" + some + " drop\n}\n}\n"
	}
	return l.nft(ctx, "lan", rules)
}

func (l *LAN) nft(ctx context.Context, role, rules string) error {
	return feed(l.command(ctx, role, "nft", "-f", "-"), rules)
}

// ip runs commands of ip(8) in a namespace.
func (l *LAN) ip(ctx context.Context, role string, commands ...string) error {
	return feed(exec.CommandContext(ctx, "ip", "-n", l.namespace(role), "-batch", "-"), strings.Join(commands, "\n")+"\n")
}

// feed runs a command with that input; its error has what the command printed.
func feed(cmd *exec.Cmd, input string) error {
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

func (l *LAN) nextPort() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ports++
	return l.ports
}

// addMachine makes a namespace with a network card, eth0, on the switch.
func (l *LAN) addMachine(ctx context.Context, role string, addr netip.Addr, mac string) error {
	if err := l.addNamespace(ctx, role); err != nil {
		return err
	}
	port := fmt.Sprintf("port%d", l.nextPort())
	if mac != "" {
		mac = "address " + mac
	}
	err := l.ip(ctx, "lan",
		fmt.Sprintf("link add %s type veth peer name eth0 %s netns %s", port, mac, l.namespace(role)),
		"link set "+port+" master br0 up")
	if err != nil {
		return err
	}
	up := []string{"link set eth0 up"}
	if addr.IsValid() {
		up = append(up, fmt.Sprintf("addr add %s/%d brd + dev eth0", addr, l.network.Bits()))
	}
	return l.ip(ctx, role, up...)
}

// A setting is a file of /proc/sys/net, which each namespace has its own of.
type setting struct{ file, value string }

func (l *LAN) addNamespace(ctx context.Context, role string, settings ...setting) error {
	ns := l.namespace(role)
	if err := feed(exec.CommandContext(ctx, "ip", "netns", "add", ns), ""); err != nil {
		return err
	}
	settings = append(settings,
		setting{"ipv6/conf/default/accept_dad", "0"},     // link-local addresses work at once
		setting{"ipv4/ping_group_range", "0 2147483647"}) // unprivileged ping, as distributions have it
	err := within(ns, func() error {
		for _, s := range settings {
			if err := os.WriteFile(filepath.Join("/proc/sys/net", s.file), []byte(s.value), 0); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return l.ip(ctx, role, "link set lo up")
}

func (l *LAN) namespace(role string) string { return fmt.Sprintf("nxl-%d-%s", l.id, role) }
