// Package image builds the machine that the lab boots as an installer: Debian
// from packages, shaped like a NixOS installer, with the tiny NixOS-shaped
// system that it installs.
//
// Everything that is inside the guest lies in the folder guest: root is laid
// over the Debian userland as it is, stage1.sh and micro.sh are the first
// programs of the two kinds of guest, nixpkgs and flake are what gets installed.
package image

import (
	"cmp"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// An Image is a guest ready to boot. All fields are absolute paths.
type Image struct {
	Dir    string // holds everything else
	Kernel string // for QEMU's -kernel
	Initrd string // first stage; archives of [WriteCPIO] may be appended
	Root   string // squashfs, to attach as a read-only disk with serial "nixiso"
	Micro  string // initramfs of a micro guest; archives may be appended
	Flake  string // folder of the tiny system's flake; copy it and fill its authorized_keys
	Cache  string // binary cache (file://) with the tiny system's parts, for building on the host
}

// Serial is what the disk that carries [Image.Root] must have as its serial
// number.
const Serial = "nixiso"

//go:embed all:guest
var guest embed.FS

//go:embed *.go
var source embed.FS

// kept is how many images stay in the cache.
const kept = 2

// Ensure returns the image, which it builds if the user's cache does not have
// it: that takes about two minutes, root's rights and the programs of package
// hostpkgs. An image is known by a hash of all that goes into it except the
// versions of Debian's packages. Callers at the same time build once. Progress
// gets a line for a person before each longer step.
func Ensure(ctx context.Context, progress func(string)) (*Image, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, fmt.Errorf("folder for the guest image: %w", err)
	}
	key, err := inputs()
	if err != nil {
		return nil, err
	}
	return ensure(ctx, filepath.Join(cache, "nixctl", "lab"), key, build, progress)
}

// inputs hashes what the image is made from.
func inputs() (string, error) {
	h := sha256.New()
	for _, tree := range []fs.FS{guest, source} {
		err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasSuffix(name, "_test.go") {
				return err
			}
			data, err := fs.ReadFile(tree, name)
			fmt.Fprintf(h, "%q %d\n%s", name, len(data), data)
			return err
		})
		if err != nil {
			return "", fmt.Errorf("guest files: %w", err)
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}

// A builder fills dir, which is empty.
type builder func(ctx context.Context, dir string, progress func(string)) error

func ensure(ctx context.Context, base, key string, build builder, progress func(string)) (*Image, error) {
	dir := filepath.Join(base, "image-"+key)
	if used(dir) {
		return at(dir), nil
	}
	if err := os.MkdirAll(base, 0o755); err != nil {
		return nil, fmt.Errorf("folder for the guest image: %w", err)
	}
	unlock, err := lock(ctx, filepath.Join(base, "lock"), progress)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if used(dir) { // another caller has built it while this one waited
		return at(dir), nil
	}
	if err := buildInto(ctx, base, dir, build, progress); err != nil {
		return nil, fmt.Errorf("guest image: %w", err)
	}
	return at(dir), prune(base)
}

// at names the files of the image in dir.
func at(dir string) *Image {
	in := func(name string) string { return filepath.Join(dir, name) }
	return &Image{dir, in("vmlinuz"), in("initrd"), in("root.squashfs"), in("micro"), in("flake"), in("cache")}
}

// used reports whether the image in dir is there, and notes that it is in use.
func used(dir string) bool {
	if _, err := os.Stat(dir); err != nil {
		return false
	}
	now := time.Now()
	_ = os.Chtimes(dir, now, now) // the image may be root's, and the caller not
	return true
}

// buildInto builds in a folder of its own, so that dir is complete when it
// exists. Leftovers of builds that were killed are removed.
func buildInto(ctx context.Context, base, dir string, build builder, progress func(string)) error {
	old, err := filepath.Glob(filepath.Join(base, "building-*"))
	if err != nil {
		return err
	}
	for _, o := range old {
		if err := os.RemoveAll(o); err != nil {
			return err
		}
	}
	tmp, err := os.MkdirTemp(base, "building-")
	if err != nil {
		return err
	}
	if err := errors.Join(os.Chmod(tmp, 0o755), build(ctx, tmp, progress)); err != nil {
		return errors.Join(err, os.RemoveAll(tmp))
	}
	return os.Rename(tmp, dir)
}

// lock waits for the lock on file and returns what gives it back.
func lock(ctx context.Context, file string, progress func(string)) (unlock func(), err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock of the guest image: %w", err)
	}
	for first := true; ; first = false {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock %q: %w", file, err), f.Close())
		}
		if first {
			progress("waiting for another lab to build the guest image")
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), f.Close())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// prune removes all images but those used last.
func prune(base string) error {
	dirs, err := filepath.Glob(filepath.Join(base, "image-*"))
	if err != nil {
		return err
	}
	age := func(dir string) time.Time {
		st, err := os.Stat(dir)
		if err != nil {
			return time.Time{}
		}
		return st.ModTime()
	}
	slices.SortFunc(dirs, func(a, b string) int { return cmp.Compare(age(b).UnixNano(), age(a).UnixNano()) })
	for _, dir := range dirs[min(kept, len(dirs)):] {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("old guest image: %w", err)
		}
	}
	return nil
}
