// Package hostpkgs makes sure that the machine has the programs that the lab
// is made of: QEMU with its firmware, the tools that build the guest image, and
// the peers that tests and benchmarks compare with.
package hostpkgs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// A Package is a Debian package and what of it the lab uses: names of programs,
// or absolute paths of files.
type Package struct {
	Name string
	Uses []string
}

// Packages lists everything that the lab takes from its host.
var Packages = []Package{
	{"qemu-system-x86", []string{"qemu-system-x86_64"}},
	{"ovmf", []string{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"}},
	{"mmdebstrap", []string{"mmdebstrap"}},
	{"debian-archive-keyring", []string{"/usr/share/keyrings/debian-archive-keyring.gpg"}},
	{"dpkg", []string{"dpkg-deb"}},
	{"squashfs-tools", []string{"mksquashfs"}},
	{"xz-utils", []string{"xz"}},
	{"zstd", []string{"zstd"}},
	{"cpio", []string{"cpio"}},
	{"nix-bin", []string{"nix"}},
	{"gdisk", []string{"sgdisk"}},
	{"parted", []string{"partprobe"}},
	{"dosfstools", []string{"mkfs.vfat"}},
	{"mtools", []string{"mcopy"}},
	{"e2fsprogs", []string{"mkfs.ext4"}},
	{"btrfs-progs", []string{"mkfs.btrfs"}},
	{"xfsprogs", []string{"mkfs.xfs"}},
	{"cryptsetup-bin", []string{"cryptsetup"}},
	{"busybox-static", []string{"busybox"}},
	{"iproute2", []string{"ip", "tc"}},
	{"nftables", []string{"nft"}},
	{"openssh-client", []string{"ssh", "ssh-keygen", "ssh-keyscan"}},
	{"openssh-server", []string{"sshd"}},
	{"dbus", []string{"dbus-daemon"}},
	{"avahi-daemon", []string{"avahi-daemon"}},
	{"avahi-utils", []string{"avahi-browse"}},
	{"arp-scan", []string{"arp-scan"}},
	{"nmap", []string{"nmap"}},
	{"git", []string{"git"}},
	{"dnsmasq-base", []string{"dnsmasq"}},
	{"mdadm", []string{"mdadm"}},
	{"lvm2", []string{"lvm"}},
}

// ErrMissing says that the machine lacks packages which were not installed.
var ErrMissing = errors.New("programs that the lab needs are missing")

// Missing returns the packages of which something is not there. It looks at
// files only and takes a few milliseconds.
func Missing() []Package { return missing(Packages, lookup) }

func missing(all []Package, found func(string) bool) []Package {
	var lacking []Package
	for _, p := range all {
		if uses := slices.DeleteFunc(slices.Clone(p.Uses), found); len(uses) > 0 {
			lacking = append(lacking, Package{p.Name, uses})
		}
	}
	return lacking
}

// lookup finds programs in the administrator's folders too, which are not in
// every user's PATH.
func lookup(use string) bool {
	if filepath.IsAbs(use) {
		_, err := os.Stat(use)
		return err == nil
	}
	if _, err := exec.LookPath(use); err == nil {
		return true
	}
	return slices.ContainsFunc([]string{"/usr/sbin", "/sbin", "/usr/local/sbin"}, func(dir string) bool {
		st, err := os.Stat(filepath.Join(dir, use))
		return err == nil && st.Mode().IsRegular() && st.Mode().Perm()&0o111 != 0
	})
}

// Ensure installs what is missing with apt-get when it runs as root on Debian
// or Ubuntu. Elsewhere it returns an error that names each missing program and
// what brings it, and is an [ErrMissing]. Nothing is executed when nothing is
// missing. apt's output goes to out.
func Ensure(ctx context.Context, out io.Writer) error {
	lacking := Missing()
	if len(lacking) == 0 {
		return nil
	}
	if os.Geteuid() != 0 || !debianLike("/etc/os-release") {
		return complain(lacking)
	}
	if err := aptGet(ctx, out, "update", "-q"); err != nil {
		return err
	}
	install := append([]string{"install", "-q", "-y", "--no-install-recommends"}, names(lacking)...)
	if err := aptGet(ctx, out, install...); err != nil {
		return err
	}
	if lacking = Missing(); len(lacking) > 0 {
		return complain(lacking)
	}
	return nil
}

func aptGet(ctx context.Context, out io.Writer, args ...string) error {
	cmd := exec.CommandContext(ctx, "apt-get", args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("apt-get %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

func complain(lacking []Package) error {
	var b strings.Builder
	for _, p := range lacking {
		fmt.Fprintf(&b, "\n  %s (package %s)", strings.Join(p.Uses, ", "), p.Name)
	}
	return fmt.Errorf("%w:%s\non Debian or Ubuntu run: sudo apt-get install --no-install-recommends %s\nwith Nix run: nix develop",
		ErrMissing, b.String(), strings.Join(names(lacking), " "))
}

func names(ps []Package) []string {
	var out []string
	for _, p := range ps {
		out = append(out, p.Name)
	}
	return out
}

// debianLike reports whether an os-release file describes Debian or one of its
// descendants.
func debianLike(file string) bool {
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		key, value, _ := strings.Cut(sc.Text(), "=")
		ids := strings.Fields(strings.Trim(value, `"'`))
		if (key == "ID" || key == "ID_LIKE") && (slices.Contains(ids, "debian") || slices.Contains(ids, "ubuntu")) {
			return true
		}
	}
	return false
}
