package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// stages writes the initramfs of the installer and that of the micro guest.
func (w *workshop) stages(ctx context.Context) error {
	initrd, err := w.initramfs(ctx, "stage1.sh", "virtio_blk", "virtio_scsi", "sd_mod", "ahci", "squashfs", "overlay")
	if err != nil {
		return err
	}
	micro, err := w.initramfs(ctx, "micro.sh", "virtio_net", "af_packet")
	if err != nil {
		return err
	}
	dhcp, err := guest.ReadFile("guest/root/usr/local/sbin/udhcpc-script")
	if err != nil {
		return err
	}
	micro = append(micro, File{"bin/udhcpc-script", 0o755, dhcp})
	return errors.Join(writeArchive(filepath.Join(w.dir, "initrd"), initrd), writeArchive(filepath.Join(w.dir, "micro"), micro))
}

// initramfs is a script as /init, busybox and kernel modules with all that they
// depend on.
func (w *workshop) initramfs(ctx context.Context, script string, modules ...string) ([]File, error) {
	busybox, err := os.ReadFile(filepath.Join(w.root, "usr/bin/busybox"))
	if err != nil {
		return nil, err
	}
	init, err := guest.ReadFile("guest/" + script)
	if err != nil {
		return nil, err
	}
	mods, err := w.modules(ctx, modules)
	if err != nil {
		return nil, err
	}
	return append([]File{
		{"bin/busybox", 0o755, busybox},
		{"init", 0o755, init},
		{"sbin/modprobe", fs.ModeSymlink | 0o777, []byte("/bin/busybox")}, // the kernel calls it by this name
	}, mods...), nil
}

// modules returns the named modules, what they depend on, and the index files
// that busybox's modprobe reads. Names that are no module are built in.
func (w *workshop) modules(ctx context.Context, names []string) ([]File, error) {
	dir, to := filepath.Join(w.root, "usr/lib/modules", w.kernel), "lib/modules/"+w.kernel
	dep, err := os.ReadFile(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return nil, err
	}
	alias, err := os.ReadFile(filepath.Join(dir, "modules.alias"))
	if err != nil {
		return nil, err
	}
	var files []File
	var index strings.Builder
	needed, there := closure(parseDep(string(dep)), names), map[string]bool{}
	for _, file := range slices.Sorted(maps.Keys(needed)) {
		data, err := plain(ctx, filepath.Join(dir, file))
		if err != nil {
			return nil, fmt.Errorf("kernel module: %w", err)
		}
		there[moduleName(file)] = true
		files = append(files, File{path.Join(to, unxz(file)), 0o644, data})
		fmt.Fprintf(&index, "%s: %s\n", unxz(file), unxz(strings.Join(needed[file], " ")))
	}
	return append(files, File{path.Join(to, "modules.dep"), 0o644, []byte(index.String())},
		File{path.Join(to, "modules.alias"), 0o644, aliases(string(alias), there)}), nil
}

// aliases keeps those lines of modules.alias ("alias PATTERN MODULE") that name a
// module that is there.
func aliases(text string, there map[string]bool) []byte {
	var kept []byte
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 3 && there[f[2]] {
			kept = append(kept, line...)
		}
	}
	return kept
}

// parseDep reads modules.dep: each module's file, and those it needs loaded
// before, all of them.
func parseDep(text string) map[string][]string {
	deps := map[string][]string{}
	for line := range strings.Lines(text) {
		if file, needs, ok := strings.Cut(line, ":"); ok {
			deps[file] = strings.Fields(needs)
		}
	}
	return deps
}

// closure picks the named modules and their dependencies from deps.
func closure(deps map[string][]string, names []string) map[string][]string {
	needed := map[string][]string{}
	for file, needs := range deps {
		if slices.Contains(names, moduleName(file)) {
			needed[file] = needs
			for _, n := range needs {
				needed[n] = deps[n]
			}
		}
	}
	return needed
}

// moduleName turns "kernel/drivers/md/dm-mod.ko.xz" into "dm_mod".
func moduleName(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

func unxz(files string) string { return strings.ReplaceAll(files, ".ko.xz", ".ko") }

// plain reads a module, which Debian compresses.
func plain(ctx context.Context, file string) ([]byte, error) {
	if !strings.HasSuffix(file, ".xz") {
		return os.ReadFile(file)
	}
	out, err := output(exec.CommandContext(ctx, "xz", "-dc", file))
	return []byte(out), err
}

func writeArchive(name string, files []File) error {
	var b bytes.Buffer
	if err := WriteCPIO(&b, files); err != nil {
		return err
	}
	return os.WriteFile(name, b.Bytes(), 0o644)
}
