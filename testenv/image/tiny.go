package image

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// tinyModules are the drivers of the installed system's first stage.
var tinyModules = []string{
	"virtio_blk", "virtio_scsi", "sd_mod", "ahci", "virtio_net", "virtio_rng", "af_packet", "crc32c_intel",
	"vfat", "nls_cp437", "nls_ascii", "nls_utf8", "btrfs", "xfs", "dm_mod", "dm_crypt", "xts", "algif_skcipher", "aesni_intel",
}

// tiny assembles the parts of the system that gets installed, puts them into the
// guest's Nix store, and writes the stand-in for nixpkgs that knows their hashes
// to the guest and, with a flake around it, to the image.
func (w *workshop) tiny(ctx context.Context) error {
	parts := []struct {
		name string
		make func(ctx context.Context, dir string) error
	}{
		{"busybox", w.busyboxPart}, {"kernel", w.kernelPart}, {"initrd", w.initrdPart}, {"luks", w.luksPart},
		{"userland", w.userlandPart}, {"systemd-boot", w.systemdBootPart}, {"grub", w.grubPart},
	}
	var names []string
	for _, p := range parts {
		dir := filepath.Join(w.root, "parts", "tiny-"+p.name)
		if err := errors.Join(os.MkdirAll(dir, 0o755), p.make(ctx, dir)); err != nil {
			return fmt.Errorf("part %q of the tiny system: %w", p.name, err)
		}
		names = append(names, p.name)
	}
	payload, err := w.store(ctx, names)
	if err != nil {
		return err
	}
	for _, dir := range []string{filepath.Join(w.root, "usr/local/share/nixpkgs"), filepath.Join(w.dir, "flake/nixpkgs")} {
		if err := errors.Join(unpack("guest/nixpkgs", dir), os.WriteFile(filepath.Join(dir, "payload.nix"), payload, 0o644)); err != nil {
			return err
		}
	}
	return unpack("guest/flake", filepath.Join(w.dir, "flake"))
}

// store adds the parts to the guest's store and to the image's binary cache, and
// returns the Nix expression of their hashes.
func (w *workshop) store(ctx context.Context, names []string) ([]byte, error) {
	add := []string{"nix-store", "--add-fixed", "--recursive", "sha256"}
	for _, n := range names {
		add = append(add, "/parts/tiny-"+n)
	}
	paths, err := w.inside(ctx, nil, add...)
	if err != nil {
		return nil, err
	}
	hashes, err := w.inside(ctx, nil, append([]string{"nix-store", "--query", "--hash"}, strings.Fields(paths)...)...)
	if err != nil {
		return nil, err
	}
	cached := append([]string{"nix", "copy", "--to", "file:///cache?compression=none"}, strings.Fields(paths)...)
	if _, err := w.inside(ctx, nil, cached...); err != nil {
		return nil, err
	}
	list := strings.Fields(hashes)
	if len(list) != len(names) {
		return nil, fmt.Errorf("nix-store knows %d hashes of %d parts", len(list), len(names))
	}
	var b bytes.Buffer
	b.WriteString("# The hashes of the parts in the lab's stores.\n{\n")
	for i, n := range names {
		fmt.Fprintf(&b, "  %s = %q;\n", n, list[i])
	}
	b.WriteString("}\n")
	return b.Bytes(), errors.Join(os.RemoveAll(filepath.Join(w.root, "parts")),
		os.Rename(filepath.Join(w.root, "cache"), filepath.Join(w.dir, "cache")))
}

func (w *workshop) busyboxPart(_ context.Context, dir string) error {
	return copyFile(filepath.Join(w.root, "usr/bin/busybox"), filepath.Join(dir, "bin/busybox"), 0o755)
}

func (w *workshop) kernelPart(_ context.Context, dir string) error {
	return copyFile(filepath.Join(w.dir, "vmlinuz"), filepath.Join(dir, "bzImage"), 0o644)
}

func (w *workshop) systemdBootPart(_ context.Context, dir string) error {
	const efi = "systemd-bootx64.efi"
	return copyFile(filepath.Join(w.debs, "usr/lib/systemd/boot/efi", efi), filepath.Join(dir, efi), 0o644)
}

func (w *workshop) initrdPart(ctx context.Context, dir string) error {
	files, err := w.initramfs(ctx, "tiny-init.sh", tinyModules...)
	if err != nil {
		return err
	}
	return writeZstd(ctx, filepath.Join(dir, "initrd"), files)
}

// luksPart is appended to the initrd of systems with encrypted disks.
func (w *workshop) luksPart(ctx context.Context, dir string) error {
	program := filepath.Join(w.root, "usr/sbin/cryptsetup")
	libs, err := w.libraries(program)
	if err != nil {
		return err
	}
	var files []File
	for _, f := range append(libs, program) {
		data, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		files = append(files, File{"lib/x86_64-linux-gnu/" + filepath.Base(f), 0o755, data})
	}
	link := func(name, target string) File { return File{name, fs.ModeSymlink | 0o777, []byte(target)} }
	return writeZstd(ctx, filepath.Join(dir, "initrd"), append(files,
		link("lib64/ld-linux-x86-64.so.2", "../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"),
		link("bin/cryptsetup", "../lib/x86_64-linux-gnu/cryptsetup")))
}

func (w *workshop) userlandPart(_ context.Context, dir string) error {
	in := func(prefix string, names ...string) []string {
		var out []string
		for _, n := range names {
			out = append(out, filepath.Join(w.root, prefix, n))
		}
		return out
	}
	bin := append(in("usr/bin", "bash", "mount", "umount", "lsblk", "findmnt", "ssh-keygen"), in("usr/sbin", "blkid", "swapon", "swapoff", "sshd")...)
	return errors.Join(
		w.programs(filepath.Join(dir, "bin"), filepath.Join(dir, "lib"), bin...),
		w.programs(filepath.Join(dir, "openssh"), filepath.Join(dir, "lib"), in("usr/lib/openssh", "sshd-session", "sshd-auth", "sftp-server")...))
}

func (w *workshop) grubPart(_ context.Context, dir string) error {
	images := filepath.Join(w.debs, "usr/lib/grub/i386-pc")
	entries, err := os.ReadDir(images)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := copyFile(filepath.Join(images, e.Name()), filepath.Join(dir, "i386-pc", e.Name()), 0o644); err != nil {
			return err
		}
	}
	return w.programs(filepath.Join(dir, "bin"), filepath.Join(dir, "lib"), filepath.Join(w.debs, "usr/sbin/grub-install"),
		filepath.Join(w.debs, "usr/sbin/grub-probe"), filepath.Join(w.debs, "usr/bin/grub-mkrelpath"))
}

// programs copies programs to bin and the libraries that they need to lib.
func (w *workshop) programs(bin, lib string, programs ...string) error {
	libs, err := w.libraries(programs...)
	if err != nil {
		return err
	}
	for _, p := range programs {
		err = errors.Join(err, copyFile(p, filepath.Join(bin, filepath.Base(p)), 0o755))
	}
	for _, l := range libs {
		err = errors.Join(err, copyFile(l, filepath.Join(lib, filepath.Base(l)), 0o755))
	}
	return err
}

// libraries returns the files of the shared libraries that programs need, with
// the loader.
func (w *workshop) libraries(programs ...string) ([]string, error) {
	dir := filepath.Join(w.root, "usr/lib/x86_64-linux-gnu")
	found := []string{filepath.Join(dir, "ld-linux-x86-64.so.2")}
	for todo := slices.Clone(programs); len(todo) > 0; todo = todo[1:] {
		f, err := elf.Open(todo[0])
		if err != nil {
			return nil, err
		}
		names, err := f.ImportedLibraries()
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("libraries of %q: %w", todo[0], err)
		}
		for _, n := range names {
			if lib := filepath.Join(dir, n); !slices.Contains(found, lib) {
				found, todo = append(found, lib), append(todo, lib)
			}
		}
	}
	return found, nil
}

func writeZstd(ctx context.Context, name string, files []File) error {
	var b bytes.Buffer
	if err := WriteCPIO(&b, files); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "zstd", "-q", "-15", "-o", name)
	cmd.Stdin = &b
	_, err := output(cmd)
	return err
}
