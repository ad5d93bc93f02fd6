//go:build linux

package lab

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/nixctl/nixctl/controller/vm"
	"github.com/nixctl/nixctl/testenv/image"
)

// A Kind is what a guest boots first.
type Kind string

// The kinds, with what they cost under emulation.
const (
	Systemd Kind = "systemd" // the whole installer: steps run as units; SSH after 20 s
	Lite    Kind = "lite"    // the same files without systemd, for discovery; SSH after 7 to 10 s
	Micro   Kind = "micro"   // the agent and a bare SSH server, for LANs with many machines; 5 s, 230 MiB
)

// A Spec describes a guest. Only Name is needed.
type Spec struct {
	Name string // also its host name
	Kind Kind   // default Systemd

	Firmware        string // default vm.UEFI, of a Micro vm.BIOS
	Memory          int    // MiB; default 1536, Lite 768, Micro 128
	InstalledMemory int    // MiB, once it runs from its disk; default 512
	CPUs            int    // default 1

	Disks   []Disk     // tried in this order when it boots from them
	HostKey string     // private key file to inject, see Lab.HostKey and Lab.ForeignKey; without one it makes its own
	MAC     string     // in lower case; default by number
	Serial  string     // of the machine; default "LAB-" and its name
	Addr    netip.Addr // static; DHCP otherwise

	// Saved is a file from Guest.Save: the guest goes on from there instead of
	// booting. All else but Name must be as in the saved guest's Spec, MAC and
	// disk sizes included, and nothing may be on the saved guest's disks.
	Saved string
}

// A Disk of a guest. Without a File it is a new, empty one.
type Disk struct {
	vm.Disk
	Size int64 // bytes, for a new one
}

func (s *Spec) defaults(n int) {
	s.Kind = cmp.Or(s.Kind, Systemd)
	firmware, memory := vm.UEFI, 1536
	switch s.Kind {
	case Lite:
		memory = 768
	case Micro:
		firmware, memory = vm.BIOS, 128
	}
	s.Firmware = cmp.Or(s.Firmware, firmware)
	s.Memory = cmp.Or(s.Memory, memory)
	s.InstalledMemory = cmp.Or(s.InstalledMemory, 512)
	s.CPUs = cmp.Or(s.CPUs, 1)
	s.Serial = cmp.Or(s.Serial, "LAB-"+s.Name)
	s.MAC = cmp.Or(s.MAC, fmt.Sprintf("52:54:00:6c:%02x:%02x", n>>8&0xff, n&0xff))
	s.Disks = append([]Disk(nil), s.Disks...) // the caller's stay as they are
}

// make gives a disk its file, sparse, if it has none.
func (d *Disk) make(file string) error {
	if d.File != "" {
		return nil
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	d.File = file
	d.NoFlush = true // nothing here must survive the workstation
	return f.Truncate(d.Size)
}

// config is the guest's machine: booted from the installer's kernel, or from
// its own disks with the installation medium gone.
func (g *Guest) config(installed bool) vm.Config {
	c := vm.Config{
		Name: g.Name, Dir: g.dir(), Firmware: g.Firmware, Memory: g.Memory, CPUs: g.CPUs, Serial: g.Serial,
		NICs:   []vm.NIC{{Tap: g.tap, MAC: g.MAC}},
		Prefix: g.lab.LAN.Switch(),
	}
	for i, d := range g.Disks {
		d.BootIndex = cmp.Or(d.BootIndex, i+1)
		c.Disks = append(c.Disks, d.Disk)
	}
	if installed {
		c.Memory = g.InstalledMemory
		return c
	}
	c.Kernel, c.Initrd, c.Cmdline = g.lab.Image.Kernel, g.initrd(), g.cmdline()
	c.NoReboot = true // so that we can pull the medium out
	if g.Kind == Micro {
		c.Accel = "tcg,tb-size=64" // MiB of translated code; the default takes most of the host's memory
		return c
	}
	// Last, so that the guest's own disks are vda, vdb and so on.
	medium := vm.Disk{File: g.lab.Image.Root, Serial: image.Serial, ReadOnly: true}
	c.Disks = append(c.Disks, medium)
	return c
}

// cmdline trades what a guest under emulation does not need for speed.
func (g *Guest) cmdline() string {
	line := []string{"console=ttyS0 quiet loglevel=4 panic=1 mitigations=off nokaslr audit=0 no_timer_check random.trust_cpu=on"}
	if g.Kind == Lite {
		line = append(line, "init=/usr/local/sbin/lite-init")
	}
	if g.Addr.IsValid() {
		line = append(line, fmt.Sprintf("ip=%s/%d::%s", g.Addr, g.lab.LAN.Network().Bits(), g.lab.LAN.Workstation()))
	}
	return strings.Join(line, " ")
}

func (g *Guest) initrd() string { return filepath.Join(g.dir(), "initrd") }

// writeInitrd appends what is injected to the image's initramfs, one archive
// to another, as Ventoy does on real machines.
func (g *Guest) writeInitrd() error {
	files, err := g.injected()
	if err != nil {
		return err
	}
	base := g.lab.Image.Initrd
	if g.Kind == Micro {
		base = g.lab.Image.Micro
	}
	in, err := os.Open(base)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(g.initrd(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return image.WriteCPIO(out, files)
}

// injected are a key bundle and, under lab-root, files for the guest's root.
func (g *Guest) injected() ([]image.File, error) {
	const programs = "lab-root/usr/local/bin/"
	files := []image.File{{Path: "nixctl/hostname", Mode: 0o644, Data: []byte(g.Name + "\n")}}
	var errs []error
	add := func(to string, mode os.FileMode, from string) {
		data, err := os.ReadFile(from)
		errs = append(errs, err)
		files = append(files, image.File{Path: to, Mode: mode, Data: data})
	}
	add("nixctl/authorized_keys", 0o600, g.lab.authorizedKeys())
	add(programs+"nixctl-agent", 0o755, g.lab.Programs.Agent)
	if g.Kind == Micro {
		add(programs+"microsshd", 0o755, g.lab.Programs.MicroSSHD)
	}
	if g.HostKey != "" {
		add("etc/ssh/ssh_host_ed25519_key", 0o600, g.HostKey)
		add("etc/ssh/ssh_host_ed25519_key.pub", 0o644, g.HostKey+".pub")
	}
	return files, errors.Join(errs...)
}
