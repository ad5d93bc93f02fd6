package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nixctl/nixctl/controller/vm"
	"github.com/nixctl/nixctl/testenv/lab"
)

// TestFlake installs a flake's host on a UEFI machine, at an address that changes
// with the reboot.
func TestFlake(t *testing.T) {
	t.Parallel()
	b := newLab(t)
	g := b.boot(lab.Spec{Name: "tiny", Firmware: vm.UEFI, HostKey: b.hostKey("tiny"), Disks: []lab.Disk{drive("virtio", "target0", 4*gib)}})
	before, _ := g.Address()
	// From now on the DHCP server hands out other addresses.
	if err := b.LAN.SetLeases(t.Context(), b.LAN.Host(200), b.LAN.Host(220)); err != nil {
		t.Fatal(err)
	}
	r := b.install("tiny", "--disk", "serial:target0", "--flake", b.flake()+"#tiny")
	if r.Proof.Address == before.String() {
		t.Errorf("the machine is still at %s: the test has not moved it", before)
	}
	system := b.login(r, "readlink /run/current-system; cat /etc/nixos/flake.nix | head -c 1; stat -c %a /etc/ssh/ssh_host_ed25519_key")
	b.want(system, r.Proof.System, "600")
	b.want(b.run(0, "ssh", "tiny", "--", "hostname").stdout, "tiny")
	b.want(b.run(0, "logs", "tiny").stdout, "install system", "installation finished!")
}

// TestCard is the command line that the project was begun for, word for word, by a
// user who has no configuration yet.
func TestCard(t *testing.T) {
	t.Parallel()
	b := newLab(t)
	b.boot(lab.Spec{Name: "host", Firmware: vm.UEFI, HostKey: b.hostKey("host"), Disks: []lab.Disk{drive("sata", "QM00001", 4*gib)}})
	o := b.run(0, "install", "host", "--disk", "/dev/sda", "--yes")
	b.want(o.stderr, "proved: host runs /nix/store/", "log in: nixctl ssh host")
	b.want(b.run(0, "ssh", "host", "--", "cat /etc/nixos/configuration.nix").stdout, "networking.hostName", `"host"`)
}

// TestBtrfsOnBIOS has the flags before the name.
func TestBtrfsOnBIOS(t *testing.T) {
	t.Parallel()
	b := newLab(t)
	b.boot(lab.Spec{Name: "tiny-btrfs-bios", Firmware: vm.BIOS, HostKey: b.hostKey("tiny-btrfs-bios"), Disks: []lab.Disk{drive("virtio", "target0", 4*gib)}})
	r := b.install("--disk", "serial:target0", "--layout", "btrfs", "--flake", b.flake(), "tiny-btrfs-bios")
	b.want(b.login(r, "cat /proc/mounts"), "subvol=/@nix", "subvol=/@home")
	if firmware := b.login(r, "ls /sys/firmware"); strings.Contains(firmware, "efi") {
		t.Errorf("the machine was started by UEFI: %s", firmware)
	}
}

// TestEncrypted installs an encrypted root beside two disks that must not change.
func TestEncrypted(t *testing.T) {
	t.Parallel()
	b := newLab(t)
	others := []string{bystander(t, 1), bystander(t, 2)}
	before := content(t, others...)
	g := b.boot(lab.Spec{Name: "tiny-luks", Firmware: vm.UEFI, HostKey: b.hostKey("tiny-luks"), Disks: []lab.Disk{
		drive("nvme", "nvme-target", 4*gib),
		{Disk: vm.Disk{File: others[0], Bus: "nvme", Serial: "nvme-other"}},
		{Disk: vm.Disk{File: others[1], Bus: "sata", Serial: "sata-other"}},
	}})
	passphrase := filepath.Join(t.TempDir(), "passphrase")
	if err := os.WriteFile(passphrase, []byte("open sesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	go unlock(t.Context(), g, "open sesame\n")
	r := b.install("tiny-luks", "--disk", "serial:nvme-target", "--encrypt", "--passphrase-file", passphrase, "--swap", "256M", "--flake", b.flake())
	b.want(b.login(r, "cat /proc/mounts"), "/dev/mapper/root / ")
	if after := content(t, others...); !slices.Equal(after, before) {
		t.Error("a disk that was not named has changed")
	}
	if b := b.run(0, "logs", "tiny-luks", "--json"); strings.Contains(b.stdout+b.stderr, "open sesame") {
		t.Error("the passphrase is in the log")
	}
}

// bystander is a disk with content that nobody asked to touch: the labels on it are
// those that nixctl's own layouts use.
func bystander(t *testing.T, n int) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "other")
	pattern := bytes.Repeat([]byte{byte(n), 0x55, 0xaa}, 1<<20)
	if err := os.WriteFile(file, pattern, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 64<<20); err != nil {
		t.Fatal(err)
	}
	return file
}

// content returns a hash of all bytes of each file. It reads only what was ever
// written of a sparse one, and so takes zeros that were written for a change, too.
func content(t *testing.T, files ...string) []string {
	t.Helper()
	var out []string
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		h := sha256.New()
		for at := int64(0); ; {
			begin, err := f.Seek(at, unix.SEEK_DATA)
			if errors.Is(err, unix.ENXIO) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if at, err = f.Seek(begin, unix.SEEK_HOLE); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(h, begin, at)
			if _, err := io.Copy(h, io.NewSectionReader(f, begin, at-begin)); err != nil {
				t.Fatal(err)
			}
		}
		f.Close()
		out = append(out, hex.EncodeToString(h.Sum(nil)))
	}
	return out
}

// unlock types the passphrase when the installed system asks for it on its console.
func unlock(ctx context.Context, g *lab.Guest, passphrase string) {
	select {
	case <-g.FromDisk():
	case <-ctx.Done():
		return
	}
	for ctx.Err() == nil {
		log, _ := os.ReadFile(g.SerialLog())
		if i := bytes.LastIndex(log, []byte("assphrase")); i >= 0 {
			g.Type(ctx, passphrase)
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// TestOneISOTwoMachines: two machines with one identity are told apart by MAC and by
// serial number, and only the one that is meant is touched.
func TestOneISOTwoMachines(t *testing.T) {
	t.Parallel()
	b := newLab(t)
	key := b.hostKey("installer")
	const mac = "52:54:00:6c:aa:02"
	left := b.start(lab.Spec{Name: "left", Kind: lab.Lite, HostKey: key, Disks: []lab.Disk{drive("virtio", "left0", 4*gib)}})
	right := b.boot(lab.Spec{Name: "right", HostKey: key, MAC: mac, Disks: []lab.Disk{drive("virtio", "right0", 4*gib)}})
	b.up(left)

	o := b.run(0, "discover", "--json", "--timeout", "5s")
	if n := strings.Count(o.stdout, `"name":"installer","verified":true`); n != 2 {
		t.Errorf("%d verified machines, want two rows for one key:\n%s", n, o.stdout)
	}
	o = b.run(2, "install", "installer", "--disk", "serial:right0", "--dry-run")
	b.want(o.stderr, "more than one machine", mac, "--on")

	before := content(t, left.Disks[0].File, right.Disks[0].File)
	o = b.run(0, "install", "tiny", "--on", mac, "--disk", "only", "--flake", b.flake(), "--dry-run")
	b.want(o.stdout, "serial right0", "nixos-install", "sfdisk")
	if after := content(t, left.Disks[0].File, right.Disks[0].File); !slices.Equal(before, after) {
		t.Fatal("a dry run has written to a disk")
	}

	r := b.install("tiny", "--on", "serial:LAB-right", "--disk", "only", "--flake", b.flake())
	b.want(b.login(r, "hostname"), "tiny")
	if after := content(t, left.Disks[0].File); after[0] != before[0] {
		t.Error("the other machine's disk was written to")
	}
}

// TestRefusals asks for what must not be done. One machine serves for all of it, and
// its disks stay as they are.
func TestRefusals(t *testing.T) {
	t.Parallel()
	b := newLab(t)
	g := b.boot(lab.Spec{Name: "web1", Kind: lab.Lite, HostKey: b.hostKey("web1"), Memory: 1024, Disks: []lab.Disk{
		drive("virtio", "empty0", 4*gib), {Disk: vm.Disk{File: bystander(t, 1), Serial: "full0"}}, drive("virtio", "small0", gib/2)}})
	foreign, err := b.ForeignKey("web1")
	if err != nil {
		t.Fatal(err)
	}
	b.hostKey("db1")
	stranger := b.boot(lab.Spec{Name: "db1", Kind: lab.Micro, HostKey: foreign})

	o := b.run(4, "install", "db1", "--on", mustAddress(t, stranger), "--disk", "only", "--yes")
	b.want(o.stderr, "SHA256:", "nothing was logged in to")
	b.run(3, "install", "nobody", "--disk", "only", "--yes")
	b.run(2, "install", "web1")
	b.run(2, "install", "web1", "--disk", "only", "--flake", "nixpkgs")

	o = b.run(5, "install", "web1", "--disk", "serial:nixiso", "--yes", "--wipe")
	b.want(o.stderr, "boot")
	o = b.run(5, "install", "web1", "--disk", "serial:small0", "--yes")
	b.want(o.stderr, "needs")
	o = b.run(5, "install", "web1", "--disk", "only", "--yes")
	b.want(o.stderr, "empty0", "full0")
	o = b.run(5, "install", "web1", "--disk", "serial:nothere", "--yes")
	b.want(o.stderr, "nothere", "empty0")
	o = b.run(4, "install", "db1", "--on", mustAddress(t, g), "--disk", "only", "--yes")
	b.want(o.stderr, `proved to be "web1"`, "--installer web1")
	o = b.run(5, "install", "web1", "--disk", "serial:full0", "--yes")
	b.want(o.stderr, "needs")

	o = b.run(0, "show", "web1", "--json")
	var facts struct {
		Firmware string
		Serial   string
		Disks    []struct {
			Serial     string
			BootMedium bool `json:"boot_medium"`
		}
	}
	if err := json.Unmarshal([]byte(o.stdout), &facts); err != nil || facts.Firmware != "uefi" || len(facts.Disks) != 4 {
		t.Errorf("facts %+v, error %v; want a UEFI machine with four disks", facts, err)
	}
	if err := g.CheckSerial(); err != nil {
		t.Error(err)
	}
}

// TestControllerDies: a step runs on although the controller that began it is gone.
func TestControllerDies(t *testing.T) {
	t.Parallel()
	b := newLab(t)
	g := b.boot(lab.Spec{Name: "tiny", HostKey: b.hostKey("tiny"), Disks: []lab.Disk{drive("virtio", "target0", 4*gib)}})
	known, err := g.KnownHosts()
	if err != nil {
		t.Fatal(err)
	}
	cmd := b.Nixctl(t.Context(), "install", "tiny", "--json", "--yes", "--disk", "only", "--flake", b.flake())
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	again := []string{"install", "tiny", "--yes", "--disk", "only", "--wipe", "--flake", b.flake()}
	b.await(ctx, g, known, "cat /run/nixctl/*/*prepare-disk.log", "is ready")
	b.want(b.run(8, again...).stderr, "another nixctl on this workstation")

	b.await(ctx, g, known, "cat /run/nixctl/*/*install-system.log", "building the flake")
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	// Now this workstation's lock is free, but the machine is still at work. To
	// another workstation that is all there is to see.
	b.want(b.run(8, again...).stderr, "is at work on the machine")
	b.await(ctx, g, known, "cat /run/nixctl/*/*install-system.status", "exit 0")
	b.await(ctx, g, known, "cat /run/nixctl/*/*install-system.log", "installation finished!")
}

// await asks the guest until the answer has text.
func (b *bench) await(ctx context.Context, g *lab.Guest, known, ask, text string) {
	b.t.Helper()
	var out []byte
	for ctx.Err() == nil {
		out, _ = g.SSH(ctx, known, ask).CombinedOutput()
		if strings.Contains(string(out), text) {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(500 * time.Millisecond):
		}
	}
	b.t.Fatalf("%s never said %q, but:\n%s", ask, text, out)
}

func mustAddress(t *testing.T, g *lab.Guest) string {
	t.Helper()
	addr, ok := g.Address()
	if !ok {
		t.Fatalf("%s has no address", g.Name)
	}
	return addr.String()
}

// TestReadySystem sends a system that the workstation has built, and extra files with
// an owner, to an XFS root.
func TestReadySystem(t *testing.T) {
	t.Parallel()
	b := newLab(t)
	system, err := b.BuildSystem(t.Context(), b.flake(), "tiny-xfs")
	if err != nil {
		t.Fatal(err)
	}
	b.boot(lab.Spec{Name: "tiny-xfs", Firmware: vm.UEFI, HostKey: b.hostKey("tiny-xfs"), Disks: []lab.Disk{drive("scsi", "target0", 4*gib)}})
	extra := t.TempDir()
	for name, mode := range map[string]os.FileMode{"var/lib/app/token": 0o640, "var/lib/app/a b\n$(c)": 0o600} {
		file := filepath.Join(extra, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("planted-secret"), mode); err != nil {
			t.Fatal(err)
		}
	}
	r := b.install("tiny-xfs", "--disk", "serial:target0", "--layout", "xfs", "--system", system,
		"--extra-files", extra, "--owner", "/var/lib/app=1000:100")
	if r.Proof.System != system {
		t.Errorf("runs %s, want %s", r.Proof.System, system)
	}
	b.want(b.login(r, "stat -c '%a %u:%g' /var/lib /var/lib/app /var/lib/app/token; grep ' / ' /proc/mounts"),
		"755 0:0\n700 1000:100\n640 1000:100", " xfs ")
}

// TestNotProved: a machine that does not come up in time is not said to be done. It
// runs a plain configuration.
func TestNotProved(t *testing.T) {
	t.Parallel()
	b := newLab(t)
	b.boot(lab.Spec{Name: "plain", Firmware: vm.BIOS, HostKey: b.hostKey("plain"), Disks: []lab.Disk{drive("sata", "target0", 4*gib)}})
	keys, err := os.ReadFile(filepath.Join(b.Keys, "authorized_keys"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := `{ ... }:
{
  imports = [ ./hardware-configuration.nix ];
  boot.loader.grub.enable = true;
  boot.loader.grub.device = "/dev/sda";
  networking.hostName = "plain";
  services.openssh.enable = true;
  users.users.root.openssh.authorizedKeys.keys = [ "` + strings.TrimSpace(string(keys)) + `" ];
  system.stateVersion = "25.05";
}
`
	if err := os.WriteFile(filepath.Join(dir, "configuration.nix"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	o := b.run(7, "install", "plain", "--disk", "serial:target0", "--yes", "--config", dir, "--wait", "1s")
	b.want(o.stderr, "the installed system is not proved")

	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	for {
		cmd := b.Nixctl(ctx, "ssh", "plain", "--", "grep", "-c", "VARIANT_ID=installer", "/etc/os-release")
		if out, _ := cmd.Output(); strings.TrimSpace(string(out)) == "0" {
			break // it was only slow: this is the installed system
		}
		select {
		case <-ctx.Done():
			t.Fatal("the installed system never came up")
		case <-time.After(time.Second):
		}
	}
}
