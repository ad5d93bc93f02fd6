package controller

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nixctl/nixctl/controller/keystore"
	"github.com/nixctl/nixctl/discovery"
	"github.com/nixctl/nixctl/discovery/arp"
	"github.com/nixctl/nixctl/discovery/mdns"
	"github.com/nixctl/nixctl/discovery/survey"
	"github.com/nixctl/nixctl/discovery/verify"
	"github.com/urfave/cli/v2"
	"golang.org/x/crypto/ssh"
)

// findOptions say where to look for machines and whom to believe. All commands that
// look for one share them.
type findOptions struct {
	Via        cli.StringSlice
	Interfaces cli.StringSlice
	CIDRs      cli.StringSlice
	Timeout    time.Duration
	Trust      string // a fingerprint read off the machine's own screen
	On         string // which machine is meant: an address, a MAC address or "serial:S"
	Installer  string // the identity that it must prove, if that is not the name asked for
	watch      bool
}

func (o *findOptions) flags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "via", Usage: "look by `SOURCE`: arp, mdns", DefaultText: "all", Destination: &o.Via},
		&cli.StringSliceFlag{Name: "interface", Usage: "look on this network interface `IF` only (repeatable)", Destination: &o.Interfaces},
		&cli.StringSliceFlag{Name: "cidr", Usage: "sweep this network `NET` instead of the interface's own (repeatable)", Destination: &o.CIDRs},
		&cli.DurationFlag{Name: "timeout", Usage: "stop looking after `TIME`", DefaultText: "3s, more for large networks", Destination: &o.Timeout},
	}
}

// oneFlags are for the commands that act on one machine.
func (o *findOptions) oneFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "on", Usage: "the machine with this `ADDR|MAC|serial:S`, if several have the identity", Destination: &o.On},
		&cli.StringFlag{Name: "installer", Usage: "the identity `NAME` that the machine proves, if it is not its own, as with one ISO for all", Destination: &o.Installer},
		&cli.StringFlag{Name: "trust-fingerprint", Usage: "believe the machine that proves the host key `SHA256:...`, read off its own screen", Destination: &o.Trust},
	}
}

// minTimeout is how long a search of a usual network may take.
const minTimeout = 3 * time.Second

// survey makes the search that o asks for.
func (o *findOptions) survey(c *console, identities []verify.Identity) (*survey.Survey, error) {
	sources, err := o.sources(c)
	if err != nil {
		return nil, err
	}
	timeout := o.Timeout
	if timeout == 0 {
		timeout = minTimeout
		for _, s := range sources {
			if s, ok := s.(*arp.Source); ok {
				timeout = max(timeout, s.Duration())
			}
		}
	}
	return &survey.Survey{
		Sources:  sources,
		Timeout:  timeout,
		Neighbor: neighbor,
		Verifier: newVerifier(identities),
	}, nil
}

func newVerifier(identities []verify.Identity) *verify.Verifier {
	return &verify.Verifier{Identities: identities, Dial: map[discovery.Route]verify.DialFunc{discovery.LAN: verify.DialLAN}}
}

// neighbor tells the MAC address behind an address that was just talked to.
func neighbor(addr netip.Addr) (string, bool) {
	index := 0
	if ifi, err := net.InterfaceByName(addr.Zone()); err == nil {
		index = ifi.Index
	}
	return arp.Neighbor(index, addr)
}

// sources lists what looks for machines: one of each kind an interface.
func (o *findOptions) sources(c *console) ([]discovery.Source, error) {
	interfaces, err := o.interfaces()
	if err != nil {
		return nil, err
	}
	prefixes, err := parsePrefixes(o.CIDRs.Value())
	if err != nil {
		return nil, err
	}
	via := o.Via.Value()
	for _, v := range via {
		if v != "arp" && v != "mdns" {
			return nil, fmt.Errorf("%w: --via %q: want arp or mdns", errUsage, v)
		}
	}
	wants := func(name string) bool { return len(via) == 0 || slices.Contains(via, name) }
	var sources []discovery.Source
	for _, ifi := range interfaces {
		if wants("arp") {
			src := &arp.Source{Interface: ifi, Prefixes: prefixes, Fallback: c.noRawSockets}
			if o.watch {
				src.Every = watchEvery
			}
			sources = append(sources, src)
		}
		if wants("mdns") {
			sources = append(sources, &mdns.Source{Interface: ifi, Watch: o.watch})
		}
	}
	return sources, nil
}

// noRawSockets tells once how a sweep gets faster.
func (c *console) noRawSockets(err error) {
	c.unprivileged.Do(func() {
		exe, _ := os.Executable()
		c.note("nixctl: %v: trying each address by TCP instead of ARP; for the fast and complete sweep:\n  %s", err, arp.CapabilityHint(exe))
	})
}

func (o *findOptions) interfaces() ([]*net.Interface, error) {
	names := o.Interfaces.Value()
	if len(names) == 0 {
		found, err := arp.Interfaces()
		if err == nil && len(found) == 0 {
			err = fmt.Errorf("%w: no network interface is up and has an address", errNotFound)
		}
		return found, err
	}
	var found []*net.Interface
	for _, n := range names {
		ifi, err := net.InterfaceByName(n)
		if err != nil {
			return nil, fmt.Errorf("%w: --interface %q: %w", errUsage, n, err)
		}
		found = append(found, ifi)
	}
	return found, nil
}

func parsePrefixes(cidrs []string) ([]netip.Prefix, error) {
	var prefixes []netip.Prefix
	for _, s := range cidrs {
		p, err := netip.ParsePrefix(s)
		if err != nil || !p.Addr().Is4() {
			return nil, fmt.Errorf("%w: --cidr %q: want an IPv4 network such as 192.168.1.0/24", errUsage, s)
		}
		prefixes = append(prefixes, p.Masked())
	}
	return prefixes, nil
}

// identities lists whom nixctl knows: the hosts of the key store and the trusted
// fingerprint, which goes by name.
func (o *findOptions) identities(c *console, name string) ([]verify.Identity, error) {
	var ids []verify.Identity
	if o.Trust != "" {
		if len(o.Trust) != 50 || !strings.HasPrefix(o.Trust, "SHA256:") {
			return nil, fmt.Errorf("%w: --trust-fingerprint %q: want SHA256: and 43 letters, as the machine's screen shows it", errUsage, o.Trust)
		}
		ids = append(ids, verify.Identity{Name: name, Fingerprint: o.Trust})
	}
	store, err := keystore.Open(c.keys)
	if err != nil {
		return nil, err
	}
	hosts, err := store.Hosts()
	if err != nil {
		c.note("nixctl: %v", err) // a host that can't be read does not hide the others
	}
	for _, h := range hosts {
		ids = append(ids, verify.Identity{Name: h.Name, Key: h.Key})
	}
	return ids, nil
}

// find returns the one machine that goes by name, or that --on names. Every other
// number of machines is an error that says what was found instead.
func (o *findOptions) find(ctx context.Context, c *console, name string) (survey.Machine, error) {
	ids, err := o.identities(c, name)
	if err != nil {
		return survey.Machine{}, err
	}
	if len(ids) == 0 {
		return survey.Machine{}, fmt.Errorf("%w: the key store %q has no host, so no machine can be proved\nmake one with: nixctl keys new %s", verify.ErrKeyMismatch, c.keys, name)
	}
	want := wanted{name: name, on: o.On, identity: o.Installer}
	if want.identity == "" && (o.On == "" || slices.ContainsFunc(ids, func(id verify.Identity) bool { return id.Name == name })) {
		want.identity = name
	}
	if addr, ok := address(o.On); ok {
		return direct(ctx, ids, addr, want)
	}
	if o.On != "" && !isMAC(o.On) && !strings.HasPrefix(o.On, "serial:") {
		return survey.Machine{}, fmt.Errorf("%w: --on %q: want an address, a MAC address or serial:S", errUsage, o.On)
	}
	s, err := o.survey(c, ids)
	if err != nil {
		return survey.Machine{}, err
	}
	machines := make(map[int]survey.Machine)
	srcErr := s.Run(ctx, func(m survey.Machine) {
		if machines[m.ID] = m; m.Gone {
			delete(machines, m.ID)
		}
	})
	if err := ctx.Err(); err != nil {
		return survey.Machine{}, err
	}
	m, err := want.choose(machines)
	if err != nil {
		return survey.Machine{}, errors.Join(err, srcErr)
	}
	return m, nil
}

// address reads ADDR or ADDR:PORT; the port of SSH is 22.
func address(s string) (netip.AddrPort, bool) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a, 22), true
	}
	a, err := netip.ParseAddrPort(s)
	return a, err == nil
}

// wanted is the machine that is looked for.
type wanted struct {
	name     string // as the user calls it
	on       string // where it is, "" for anywhere
	identity string // that it must prove, "" for any of the key store
}

func (w wanted) String() string {
	if w.on != "" {
		return fmt.Sprintf("%q on %q", w.name, w.on)
	}
	return fmt.Sprintf("%q", w.name)
}

// check refuses a machine that proved to be another host than the one that is meant.
func (w wanted) check(m survey.Machine) error {
	if proved := m.Installer.Name(); w.identity != "" && proved != w.identity {
		return fmt.Errorf("%w: the machine %s proved to be %q\nif it is to become %q all the same: --installer %s", verify.ErrKeyMismatch, w, proved, w.name, proved)
	}
	return nil
}

// direct verifies one address without a search.
func direct(ctx context.Context, ids []verify.Identity, addr netip.AddrPort, want wanted) (survey.Machine, error) {
	inst, err := newVerifier(ids).Verify(ctx, discovery.Candidate{Addr: addr, Route: discovery.LAN})
	if errors.Is(err, verify.ErrKeyMismatch) {
		return survey.Machine{}, fmt.Errorf("%w\nnothing was logged in to; if that is the fingerprint on its own screen: --trust-fingerprint SHA256:FINGERPRINT", err)
	}
	if err != nil {
		return survey.Machine{}, fmt.Errorf("%w: %w\nis it booted? nixctl discover --all shows what is there", errNotFound, err)
	}
	m := survey.Machine{Installer: inst, Key: inst.Key(), Addresses: []netip.AddrPort{addr}}
	m.MAC, _ = neighbor(addr.Addr())
	return m, want.check(m)
}

// choose picks the wanted machine among those that were found.
func (w wanted) choose(machines map[int]survey.Machine) (survey.Machine, error) {
	var named, strangers []survey.Machine
	for _, m := range machines {
		switch {
		case !m.Verified():
			if m.Claim.Name == w.name || w.on != "" && answers(m, w.on) {
				strangers = append(strangers, m)
			}
		case w.on != "" && answers(m, w.on), w.on == "" && m.Installer.Name() == w.identity:
			named = append(named, m)
		}
	}
	what := w.String()
	switch {
	case len(named) == 1:
		return named[0], w.check(named[0])
	case len(named) > 1:
		return survey.Machine{}, fmt.Errorf("%w has the identity of %s:\n%s\nchoose one with --on, by MAC address, serial:... or address", errAmbiguous, what, list(named))
	case len(strangers) > 0:
		return survey.Machine{}, fmt.Errorf("%w: no machine proved to be %s, but these say so with another key:\n%s\nnothing was logged in to; if the fingerprint is the one on its own screen: --trust-fingerprint SHA256:FINGERPRINT", verify.ErrKeyMismatch, what, list(strangers))
	default:
		return survey.Machine{}, fmt.Errorf("%w: no verified installer is %s\nsee what is there with: nixctl discover --all", errNotFound, what)
	}
}

func isMAC(s string) bool {
	_, err := net.ParseMAC(s)
	return err == nil
}

// answers reports whether m is what on names. A serial is only claimed here; it is
// checked once the machine is logged in to.
func answers(m survey.Machine, on string) bool {
	if serial, ok := strings.CutPrefix(on, "serial:"); ok {
		return serial != "" && m.Claim.Serial == serial
	}
	if mac, err := net.ParseMAC(on); err == nil {
		if m.MAC != "" {
			return m.MAC == mac.String()
		}
		return m.Claim.MAC == mac.String()
	}
	return false
}

// list prints one machine a line, for errors.
func list(machines []survey.Machine) string {
	var lines []string
	for _, m := range machines {
		l := fmt.Sprintf("  %s at %s", m.MAC, m.Addresses[0].Addr())
		if m.Claim.Serial != "" {
			l += fmt.Sprintf(", serial:%s", m.Claim.Serial)
		}
		lines = append(lines, l+", key "+ssh.FingerprintSHA256(m.Key))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
