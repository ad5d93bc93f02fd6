//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/nixctl/nixctl/controller/vm"
)

// startLimit bounds how long QEMU may take to answer; it takes about 0.2 s on
// an idle machine.
const startLimit = time.Minute

// A Guest is a machine of a lab. Its methods may be called from several
// goroutines.
type Guest struct {
	Spec // as started, with its defaults filled in

	lab *Lab
	tap string

	mu        sync.Mutex
	machine   *vm.Machine
	installed bool          // runs from its own disk
	retired   bool          // the lab ends: start it no more
	off       chan struct{} // closed when it is off and stays off
	exit      vm.Exit       // why, valid once off is closed
	err       error         // going on from the disk did not work
	fromDisk  chan struct{} // closed when it has been started from its disk
}

// Start boots a guest and returns when its power is on, which is long before
// anybody can log in: see WaitSSH. The guest lives until it turns itself off,
// or Stop, or the end of the lab; ctx ends the start only.
func (l *Lab) Start(ctx context.Context, s Spec) (*Guest, error) {
	n, err := l.register(s.Name)
	if err != nil {
		return nil, err
	}
	s.defaults(n)
	g := &Guest{Spec: s, lab: l, fromDisk: make(chan struct{})}
	if err := g.prepare(ctx); err != nil {
		return nil, fmt.Errorf("guest %q: %w", s.Name, err)
	}
	if err := g.PowerOn(ctx); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.guests = append(l.guests, g)
	return g, nil
}

// register reserves a name and counts the guests.
func (l *Lab) register(name string) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if name == "" || filepath.Base(name) != name || l.names[name] {
		return 0, fmt.Errorf("guest name %q is empty, taken or no file name", name)
	}
	l.names[name] = true
	return len(l.names), nil
}

// prepare makes what the guest needs before its first start.
func (g *Guest) prepare(ctx context.Context) (err error) {
	if err := os.MkdirAll(g.dir(), 0o700); err != nil {
		return err
	}
	for i := range g.Disks {
		if err := g.Disks[i].make(filepath.Join(g.dir(), fmt.Sprintf("disk%d", i))); err != nil {
			return err
		}
	}
	if g.tap, err = g.lab.LAN.Tap(ctx); err != nil {
		return err
	}
	return g.writeInitrd()
}

func (g *Guest) dir() string { return filepath.Join(g.lab.LAN.Dir(), "guests", g.Name) }

// PowerOn starts a guest that is off: from its own disk if it went on from
// there before, else from the installer.
func (g *Guest) PowerOn(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.retired || g.machine != nil && !isClosed(g.off) {
		return fmt.Errorf("guest %q is on, or its lab has ended", g.Name)
	}
	c := g.config(g.installed)
	if g.machine == nil {
		c.Incoming = g.Saved
	}
	m, err := vm.Start(ctx, c)
	if err != nil {
		return err
	}
	g.machine, g.off, g.err = m, make(chan struct{}), nil
	go g.supervise(context.WithoutCancel(ctx), m, g.off)
	return nil
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// supervise starts a guest that has left the installer from its own disk, once.
// From then on resets happen in place, as on every machine.
func (g *Guest) supervise(ctx context.Context, m *vm.Machine, off chan struct{}) {
	defer close(off)
	for {
		exit, err := m.Wait(ctx)
		if m = g.goOn(ctx, exit, err); m == nil {
			return
		}
	}
}

// goOn returns the guest's next machine, nil if it stays off.
func (g *Guest) goOn(ctx context.Context, exit vm.Exit, err error) *vm.Machine {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.exit, g.err = exit, err
	if err != nil || g.retired || g.installed || exit.Reason != "guest-reset" {
		return nil
	}
	if g.err = g.CheckSerial(); g.err != nil { // a crash of the installer resets, too
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	m, err := vm.Start(ctx, g.config(true))
	if err != nil {
		g.err = fmt.Errorf("from its disk: %w", err)
		return nil
	}
	g.machine, g.installed = m, true
	close(g.fromDisk)
	return m
}

// Save writes what the guest has in memory to a file for Spec.Saved, which
// spares other guests the boot. It leaves the guest frozen: Stop it.
func (g *Guest) Save(ctx context.Context, file string) error { return g.Machine().Save(ctx, file) }

// Machine is the guest's present machine, or its last one. It is another one
// after the guest has gone on from its disk.
func (g *Guest) Machine() *vm.Machine {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.machine
}

// FromDisk is closed when the guest has been started from its own disk.
func (g *Guest) FromDisk() <-chan struct{} { return g.fromDisk }

// WaitOff waits until the guest is off and returns why.
func (g *Guest) WaitOff(ctx context.Context) (vm.Exit, error) {
	g.mu.Lock()
	off := g.off
	g.mu.Unlock()
	select {
	case <-off:
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.exit, g.err
	case <-ctx.Done():
		return vm.Exit{}, ctx.Err()
	}
}

// Stop cuts the guest's power, if it is on.
func (g *Guest) Stop(ctx context.Context) error {
	if err := g.Machine().Kill(ctx); err != nil {
		return err
	}
	_, err := g.WaitOff(ctx)
	return err
}

// retire keeps the guest from being started again.
func (g *Guest) retire() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.retired = true
}

// SerialLog is the path of the guest's serial log, over all its boots.
func (g *Guest) SerialLog() string { return g.Machine().SerialLog() }

// Type types on the guest's serial console.
func (g *Guest) Type(ctx context.Context, text string) error {
	return g.Machine().SendSerial(ctx, text)
}

// Address is the guest's static address or its lease, and whether it has one.
func (g *Guest) Address() (netip.Addr, bool) {
	if g.Addr.IsValid() {
		return g.Addr, true
	}
	return g.lab.LAN.Lease(g.MAC)
}

// WaitSSH waits until the guest's SSH server answers the workstation. It ends
// early if the guest goes off.
func (g *Guest) WaitSSH(ctx context.Context) error {
	up, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go func() {
		if exit, err := g.WaitOff(up); up.Err() == nil {
			stop(errors.Join(fmt.Errorf("it went off: %+v", exit), err))
		}
	}()
	if _, err := g.lab.LAN.WaitSSH(up, g.Address); err != nil {
		return fmt.Errorf("guest %q: %w\nits serial log ends with:\n%s", g.Name, err, g.lastLines())
	}
	return nil
}

func (g *Guest) lastLines() string {
	b, err := os.ReadFile(g.SerialLog())
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-2000):])
}

// KnownHosts writes a known_hosts file that has the guest's present address
// with the key that was injected, and returns its path.
func (g *Guest) KnownHosts() (string, error) {
	addr, ok := g.Address()
	if !ok {
		return "", fmt.Errorf("guest %q has no address yet", g.Name)
	}
	public, err := os.ReadFile(g.HostKey + ".pub")
	if err != nil {
		return "", err
	}
	file := filepath.Join(g.dir(), "known_hosts")
	return file, os.WriteFile(file, fmt.Appendf(nil, "%s %s", addr, public), 0o600)
}

// SSH is a command that OpenSSH runs in the guest from the workstation, with
// the host keys of that known_hosts file and no others.
func (g *Guest) SSH(ctx context.Context, knownHosts string, args ...string) *exec.Cmd {
	addr, _ := g.Address() // without one, ssh says so
	argv := []string{"-F", "none", "-i", g.lab.UserKey(), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
		"-o", "StrictHostKeyChecking=yes", "-o", "UserKnownHostsFile=" + knownHosts, "-o", "GlobalKnownHostsFile=none",
		"-o", "ConnectTimeout=30", "-o", "ServerAliveInterval=10", "root@" + addr.String(), "--"}
	return g.lab.LAN.Command(ctx, "ssh", append(argv, args...)...)
}

// CheckSerial returns an error if the serial log tells of a crash in the
// guest: whatever was tested there proves nothing.
func (g *Guest) CheckSerial() error {
	f, err := os.Open(filepath.Join(g.dir(), "serial.log"))
	if err != nil {
		return err
	}
	defer f.Close()
	lines, err := vm.Trouble(f)
	if len(lines) > 0 {
		err = errors.Join(err, fmt.Errorf("guest %q crashed:\n%s", g.Name, strings.Join(lines, "\n")))
	}
	return err
}
