package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nixctl/nixctl/testenv/hostpkgs"
)

// suite is the Debian release of the guest.
const suite = "trixie"

// installed are the packages of the guest's userland: what a NixOS installer
// has too, and what it takes to be one.
var installed = []string{
	"systemd", "systemd-sysv", "systemd-resolved", "udev", "dbus", "openssh-server",
	"gdisk", "parted", "fdisk", "dosfstools", "e2fsprogs", "btrfs-progs", "xfsprogs", "cryptsetup-bin", "mdadm", "lvm2",
	"mount", "util-linux", "kmod", "procps", "less", "sudo", "tar", "zstd", "xz-utils", "iproute2", "iputils-ping",
	"nix-bin", "git", "ca-certificates", "efibootmgr", "mtools", "busybox-static",
}

// unpacked are packages of which only some files are used. The cloud flavour of
// the kernel boots faster: it has the drivers of virtual machines alone.
var unpacked = []string{"linux-image-cloud-amd64", "systemd-boot-efi", "grub-pc-bin", "grub2-common", "grub-common"}

// A workshop is a build under way.
type workshop struct {
	dir    string // the image to be
	root   string // the guest's root file system
	debs   string // contents of the unpacked packages
	kernel string // version, "6.12.1-cloud-amd64"
}

func build(ctx context.Context, dir string, progress func(string)) error {
	if os.Geteuid() != 0 {
		return errors.New("building it makes device files and needs root: run the lab with sudo once")
	}
	w := &workshop{dir: dir, root: filepath.Join(dir, "root"), debs: filepath.Join(dir, "debs")}
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"fetching and unpacking Debian packages for the guest (1 minute)", w.debian},
		{"shaping them into a NixOS installer", w.shape},
		{"assembling the tiny system that gets installed", w.tiny},
		{"writing the first stages", w.stages},
		{"compressing the guest's root file system", w.squash},
	} {
		progress(step.what)
		if err := step.do(ctx); err != nil {
			return err
		}
	}
	return errors.Join(os.RemoveAll(w.root), os.RemoveAll(w.debs))
}

// debian makes the plain userland and unpacks the kernel and boot loaders.
func (w *workshop) debian(ctx context.Context) error {
	mirror, err := hostpkgs.Mirror()
	if err != nil {
		return err
	}
	// a metapackage such as linux-image-cloud-amd64 stands for the package it depends on
	fetch := `set -eu; mkdir /debs; cd /debs; for p in ` + strings.Join(unpacked, " ") + `; do
		real=$(apt-cache depends "$p" | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p')
		apt-get -q -o APT::Sandbox::User=root download "${real:-$p}"; done`
	args := []string{"--mode=root", "--variant=apt", "--architectures=amd64", "--include=" + strings.Join(installed, ","),
		`--aptopt=APT::Install-Recommends "false"`, "--chrooted-customize-hook=" + fetch}
	for _, d := range []string{"doc", "man", "locale", "info", "i18n"} {
		args = append(args, "--dpkgopt=path-exclude=/usr/share/"+d+"/*")
	}
	const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
	source := fmt.Sprintf("deb [signed-by=%s] %s %s main", keyring, mirror, suite)
	args = append(args, suite, w.root, source)
	if err := w.host(ctx, "unshare", append(slices.Concat(alone, []string{"--mount-proc", "mmdebstrap"}), args...)...); err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(w.root, "debs", "*.deb"))
	if err != nil {
		return err
	}
	for _, deb := range debs {
		if err := w.host(ctx, "dpkg-deb", "-x", deb, w.debs); err != nil {
			return err
		}
	}
	return nil
}

// shape adds the kernel's modules and our own files, and runs setup.sh inside.
func (w *workshop) shape(ctx context.Context) error {
	versions, err := filepath.Glob(filepath.Join(w.debs, "usr/lib/modules/*"))
	if err != nil || len(versions) != 1 {
		return fmt.Errorf("kernels in the Debian package: %q, want one (%w)", versions, err)
	}
	w.kernel = filepath.Base(versions[0])
	if err := copyFile(filepath.Join(w.debs, "boot/vmlinuz-"+w.kernel), filepath.Join(w.dir, "vmlinuz"), 0o644); err != nil {
		return err
	}
	modules := filepath.Join(w.root, "usr/lib/modules")
	if err := errors.Join(os.MkdirAll(modules, 0o755), os.Rename(versions[0], filepath.Join(modules, w.kernel))); err != nil {
		return err
	}
	if err := unpack("guest/root", w.root); err != nil {
		return err
	}
	if err := unpack("guest/masked-units", filepath.Join(w.root, "masked-units")); err != nil {
		return err
	}
	script, err := guest.ReadFile("guest/setup.sh")
	if err != nil {
		return err
	}
	_, err = w.inside(ctx, bytes.NewReader(script), "sh", "-eu")
	return err
}

func (w *workshop) squash(ctx context.Context) error {
	return w.host(ctx, "mksquashfs", w.root, filepath.Join(w.dir, "root.squashfs"),
		"-comp", "zstd", "-Xcompression-level", "6", "-noappend", "-quiet", "-no-progress")
}

// alone are unshare's flags for a command whose mounts and processes end with it,
// even when it is killed: nothing then deletes through a mount left behind.
var alone = []string{"--mount", "--pid", "--fork", "--kill-child"}

// inside runs a command in the guest's root, with a /proc of its own, and
// returns what it prints.
func (w *workshop) inside(ctx context.Context, stdin io.Reader, args ...string) (string, error) {
	enter := slices.Concat(alone, []string{"--mount-proc=" + filepath.Join(w.root, "proc"), "chroot", w.root}, args)
	cmd := exec.CommandContext(ctx, "unshare", enter...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C"}
	cmd.Stdin = stdin
	return output(cmd)
}

// host runs a command on this machine. Its environment is small, so that
// whoever builds gets the same image.
func (w *workshop) host(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin", "HOME=" + w.dir, "LC_ALL=C", "TMPDIR=" + os.TempDir(),
		"http_proxy=" + os.Getenv("http_proxy"), "https_proxy=" + os.Getenv("https_proxy")}
	_, err := output(cmd)
	return err
}

// output runs cmd and returns what it prints; an error carries the end of all it
// said.
func output(cmd *exec.Cmd) (string, error) {
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		text := strings.TrimSpace(out.String() + errs.String())
		return "", fmt.Errorf("%s: %w:\n%s", filepath.Base(cmd.Path), err, text[max(0, len(text)-2000):])
	}
	return out.String(), nil
}

// unpack writes the embedded file or folder from to the path to. Scripts become
// executable.
func unpack(from, to string) error {
	return fs.WalkDir(guest, from, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(name, from))
		if d.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		data, err := guest.ReadFile(name)
		if err != nil {
			return err
		}
		return os.WriteFile(target, data, modeOf(data))
	})
}

func modeOf(data []byte) fs.FileMode {
	if bytes.HasPrefix(data, []byte("#!")) {
		return 0o755
	}
	return 0o644
}

// copyFile copies what from is or points to, making folders as needed.
func copyFile(from, to string, mode fs.FileMode) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, data, mode)
}
