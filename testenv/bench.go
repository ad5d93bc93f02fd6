package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nixctl/nixctl/controller/keystore"
	"github.com/nixctl/nixctl/testenv/hostpkgs"
	"github.com/nixctl/nixctl/testenv/lab"
	"github.com/nixctl/nixctl/testenv/lan"
)

// bench compares nixctl with the tools that people use for the same work, in one run.
func bench(ctx context.Context, args []string) error {
	if err := hostpkgs.Ensure(ctx, os.Stdout); err != nil {
		return err
	}
	switch {
	case slices.Equal(args, []string{"discovery"}):
		return benchDiscovery(ctx)
	case slices.Equal(args, []string{"install"}):
		return benchInstall(ctx)
	}
	return errUsage
}

// servers is how many hosts of the benchmark's LAN run sshd; some more are there that
// do not, or that drop what is sent to port 22.
const servers = 8

// A contender finds the host keys of a network.
type contender struct {
	name string
	runs int
	argv []string // NET stands for the network
	// key tells a line of output that has a host key.
	key func(line string) bool
}

func contenders(nixctl string) []contender {
	contains := func(s string) func(string) bool { return func(l string) bool { return strings.Contains(l, s) } }
	return []contender{
		{"nixctl discover", 5, []string{nixctl, "discover", "--json"}, contains(`"verified":true`)},
		{"arp-scan | ssh-keyscan", 5, []string{"sh", "-c", "arp-scan --interface=eth0 -x -q NET | cut -f1 | sort -u | ssh-keyscan -T1 -t ed25519 -f - 2>/dev/null"}, contains("ssh-ed25519")},
		{"arp-scan tuned | same", 5, []string{"sh", "-c", "arp-scan --interface=eth0 -x -q -B 10M -t 100 NET | cut -f1 | sort -u | ssh-keyscan -T1 -t ed25519 -f - 2>/dev/null"}, contains("ssh-ed25519")},
		{"nmap ssh-hostkey", 3, []string{"nmap", "-n", "-p22", "--open", "--script", "ssh-hostkey", "NET"}, contains("(ED25519)")},
	}
}

// benchDiscovery measures the time to the last host key, and to the end.
func benchDiscovery(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "nixctl-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	programs, err := lab.Build(ctx, dir)
	if err != nil {
		return err
	}
	for _, bits := range []int{24, 22} {
		if err := benchNetwork(ctx, programs.Nixctl, bits); err != nil {
			return err
		}
	}
	return nil
}

func benchNetwork(ctx context.Context, nixctl string, bits int) (err error) {
	network, err := netip.MustParsePrefix("10.213.240.0/22").Addr().Prefix(bits)
	if err != nil {
		return err
	}
	l, err := lan.New(ctx, lan.Config{Network: network})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	if err := crowd(ctx, l, bits); err != nil {
		return err
	}
	fmt.Printf("\n%s, %d SSH servers; median of the runs, in seconds\n%-24s %9s %9s %6s %9s\n", network, servers, "", "last key", "end", "keys", "ratio")
	var ours time.Duration
	for _, c := range contenders(nixctl) {
		last, end, keys, err := c.median(ctx, l, network)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		if ours == 0 {
			ours = last
		}
		fmt.Printf("%-24s %9.3f %9.3f %6s %8.1fx\n", c.name, last.Seconds(), end.Seconds(), keys, last.Seconds()/ours.Seconds())
	}
	return nil
}

// crowd fills the LAN: real servers, hosts without one, and hosts that stay silent.
func crowd(ctx context.Context, l *lan.LAN, bits int) error {
	keys, err := keystore.Open(keysDir(l))
	if err != nil {
		return err
	}
	for i := range servers {
		name := fmt.Sprintf("host%d", i)
		if _, err := keys.New(name, false); err != nil {
			return err
		}
		file := filepath.Join(keysDir(l), "hosts", name, "ssh_host_ed25519_key")
		if err := l.AddServer(ctx, lan.Server{Addr: l.Host(10 + i), HostKey: file}); err != nil {
			return err
		}
	}
	silent := netip.PrefixFrom(l.Host(144), 28)
	networks := []netip.Prefix{netip.PrefixFrom(l.Host(128), 26)}
	if bits < 24 {
		networks = append(networks, netip.PrefixFrom(l.Host(512), 25))
	}
	return l.AddHosts(ctx, silent, networks...)
}

func keysDir(l *lan.LAN) string { return filepath.Join(l.Dir(), "keys") }

// median runs c and returns the times to the last key and to the end, and the keys
// found: a number, or the least and the most.
func (c contender) median(ctx context.Context, l *lan.LAN, network netip.Prefix) (last, end time.Duration, keys string, err error) {
	var lasts, ends []time.Duration
	var counts []int
	for range c.runs {
		la, e, n, err := c.once(ctx, l, network)
		if err != nil {
			return 0, 0, "", err
		}
		lasts, ends, counts = append(lasts, la), append(ends, e), append(counts, n)
	}
	slices.Sort(lasts)
	slices.Sort(ends)
	slices.Sort(counts)
	keys = fmt.Sprint(counts[0])
	if most := counts[len(counts)-1]; most != counts[0] {
		keys += fmt.Sprintf("-%d", most)
	}
	return lasts[len(lasts)/2], ends[len(ends)/2], keys, nil
}

func (c contender) once(ctx context.Context, l *lan.LAN, network netip.Prefix) (last, end time.Duration, keys int, err error) {
	var argv []string
	for _, a := range c.argv {
		argv = append(argv, strings.ReplaceAll(a, "NET", network.String()))
	}
	cmd := l.Command(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "HOME="+l.Dir(), "NIXCTL_KEYS="+keysDir(l))
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, 0, 0, err
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, 0, 0, err
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if c.key(lines.Text()) {
			keys++
			last = time.Since(start)
		}
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && keys > 0 {
		err = nil // arp-scan and ssh-keyscan end so when some hosts do not answer
	}
	return last, time.Since(start), keys, err
}

// nixosAnywhere is how long nixos-anywhere takes with the same guest on a machine
// like this one, from its start to "Done!" (measured once; it does not wait for the
// new system): 37 MiB as a flake, and 137 MiB as a ready store path.
var nixosAnywhere = map[string]time.Duration{"tiny": 45 * time.Second, "big": 46 * time.Second}

// benchInstall prints where the time of an installation goes, for a small and a
// larger system.
func benchInstall(ctx context.Context) error {
	if err := setup(ctx, nil); err != nil {
		return err
	}
	for _, host := range []string{"tiny", "big"} {
		if err := benchHost(ctx, host); err != nil {
			return err
		}
	}
	return nil
}

func benchHost(ctx context.Context, host string) (err error) {
	l, err := lab.New(ctx, lab.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	key, err := l.HostKey(host)
	if err != nil {
		return err
	}
	spec := demoGuests[0]
	spec.Name, spec.HostKey, spec.CPUs = host, key, 1
	g, err := l.Start(ctx, spec)
	if err != nil {
		return err
	}
	if err := g.WaitSSH(ctx); err != nil {
		return err
	}
	what, err := systemFlags(ctx, l, host)
	if err != nil {
		return err
	}
	var stdout bytes.Buffer
	cmd := l.Nixctl(ctx, append([]string{"install", host, "--json", "--yes", "--disk", "only"}, what...)...)
	cmd.Stdout, cmd.Stderr = &stdout, os.Stderr
	start := time.Now()
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("install %s: %w\n%s", host, err, stdout.String())
	}
	return printInstall(host, stdout.String(), time.Since(start), cmd.ProcessState.SystemTime()+cmd.ProcessState.UserTime())
}

// systemFlags installs the small system as a flake, and the larger one as a ready store
// path, as it was measured with nixos-anywhere.
func systemFlags(ctx context.Context, l *lab.Lab, host string) ([]string, error) {
	flake, err := l.CopyFlake()
	if err != nil || host == "tiny" {
		return []string{"--flake", flake}, err
	}
	system, err := l.BuildSystem(ctx, flake, host)
	return []string{"--system", system}, err
}

// printInstall prints how long each step took, up to the reboot and after it.
func printInstall(host, events string, total, own time.Duration) error {
	fmt.Printf("\n%s, steps in seconds\n", host)
	var upToReboot, proof float64
	for l := range strings.Lines(events) {
		var e struct {
			Kind, Name string
			Seconds    float64
			Proof      *struct{ Seconds float64 }
		}
		if err := json.Unmarshal([]byte(l), &e); err != nil {
			return fmt.Errorf("line %q: %w", l, err)
		}
		if e.Kind == "done" {
			fmt.Printf("  %-20s %7.1f\n", e.Name, e.Seconds)
			upToReboot += e.Seconds
		}
		if e.Proof != nil {
			proof = e.Proof.Seconds
		}
	}
	find := total.Seconds() - upToReboot - proof
	fmt.Printf("  %-20s %7.1f\n  %-20s %7.1f\n  %-20s %7.1f\n", "find, verify, facts", find, "boot and proof", proof, "all", total.Seconds())
	fmt.Printf("  up to the reboot %.1f s, %.2f of the %s that nixos-anywhere was measured to take to its end; nixctl's own CPU %.1f s\n",
		find+upToReboot, (find+upToReboot)/nixosAnywhere[host].Seconds(), nixosAnywhere[host], own.Seconds())
	return nil
}
