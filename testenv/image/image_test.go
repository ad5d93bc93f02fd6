package image

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func quiet(string) {}

// filled is a builder that leaves one file and counts its calls.
func filled(calls *atomic.Int32) builder {
	return func(_ context.Context, dir string, _ func(string)) error {
		calls.Add(1)
		return os.WriteFile(filepath.Join(dir, "vmlinuz"), []byte("kernel"), 0o644)
	}
}

func TestEnsureBuildsOnce(t *testing.T) {
	base := t.TempDir()
	var calls atomic.Int32
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			im, err := ensure(t.Context(), base, "k1", filled(&calls), quiet)
			if err != nil {
				t.Error(err)
			} else if data, err := os.ReadFile(im.Kernel); err != nil || string(data) != "kernel" {
				t.Errorf("%q, %v", data, err)
			}
		})
	}
	callers.Wait()
	if n := calls.Load(); n != 1 {
		t.Errorf("built %d times", n)
	}
	if _, err := ensure(t.Context(), base, "k2", filled(&calls), quiet); err != nil || calls.Load() != 2 {
		t.Errorf("another key: %v, %d builds", err, calls.Load())
	}
}

func TestEnsureFailure(t *testing.T) {
	base := t.TempDir()
	broken := errors.New("no mirror")
	fails := func(_ context.Context, dir string, _ func(string)) error {
		write(t, filepath.Join(dir, "half"), "done")
		return broken
	}
	if _, err := ensure(t.Context(), base, "k", fails, quiet); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	if left, err := filepath.Glob(filepath.Join(base, "[bi]*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
	// what a killed build left behind goes with the next one
	write(t, filepath.Join(base, "building-1/half"), "done")
	if _, err := ensure(t.Context(), base, "k", filled(new(atomic.Int32)), quiet); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(base, "building-1")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("leftover: %v", err)
	}
}

func TestEnsureKeepsTwo(t *testing.T) {
	base := t.TempDir()
	for i, key := range []string{"a", "b", "c", "d"} {
		if i > 0 { // a is asked for again before every other one: it is never the oldest
			if _, err := ensure(t.Context(), base, "a", filled(new(atomic.Int32)), quiet); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := ensure(t.Context(), base, key, filled(new(atomic.Int32)), quiet); err != nil {
			t.Fatal(err)
		}
	}
	got, err := filepath.Glob(filepath.Join(base, "image-*"))
	if err != nil || len(got) != kept || filepath.Base(got[0]) != "image-a" || filepath.Base(got[1]) != "image-d" {
		t.Errorf("kept %q, %v; want a and d", got, err)
	}
}

func TestEnsureWaitsForTheLock(t *testing.T) {
	base := t.TempDir()
	unlock, err := lock(t.Context(), filepath.Join(base, "lock"), quiet)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	said := ""
	if _, err := ensure(ctx, base, "k", filled(new(atomic.Int32)), func(s string) { said = s }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with the lock held: %v", err)
	}
	if !strings.Contains(said, "waiting") {
		t.Errorf("progress said %q", said)
	}
	unlock()
	if _, err := ensure(t.Context(), base, "k", filled(new(atomic.Int32)), quiet); err != nil {
		t.Error(err)
	}
}

func TestInputs(t *testing.T) {
	a, err := inputs()
	if err != nil || len(a) != 16 {
		t.Fatalf("%q, %v", a, err)
	}
	if b, err := inputs(); err != nil || b != a {
		t.Errorf("%q, then %q, %v", a, b, err)
	}
}

// TestGuestComplete guards against files that embedding leaves out.
func TestGuestComplete(t *testing.T) {
	err := filepath.WalkDir("guest", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		onDisk, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if embedded, err := guest.ReadFile(name); err != nil || string(embedded) != string(onDisk) {
			t.Errorf("%s is not embedded: %v", name, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestUnpack(t *testing.T) {
	dir := t.TempDir()
	if err := unpack("guest/root", dir); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{"usr/local/bin/nixos-install": 0o755, "etc/nix/nix.conf": 0o644} {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Mode() != want {
			t.Errorf("%s: %v, %v", name, st, err)
		}
	}
	if err := unpack("guest/none", dir); err == nil {
		t.Error("a folder that is not there was unpacked")
	}
}

func TestClosure(t *testing.T) {
	deps := parseDep(`kernel/drivers/md/dm-mod.ko.xz:
kernel/drivers/md/dm-crypt.ko.xz: kernel/drivers/md/dm-mod.ko.xz
kernel/drivers/net/virtio_net.ko.xz: kernel/drivers/net/net_failover.ko.xz kernel/net/core/failover.ko.xz
kernel/drivers/net/net_failover.ko.xz: kernel/net/core/failover.ko.xz
kernel/net/core/failover.ko.xz:
`)
	got := closure(deps, []string{"dm_crypt", "virtio_net", "nvme"})
	if len(got) != 5 || !slices.Equal(got["kernel/drivers/md/dm-crypt.ko.xz"], []string{"kernel/drivers/md/dm-mod.ko.xz"}) {
		t.Errorf("%q", got)
	}
	if got := closure(deps, []string{"failover"}); len(got) != 1 {
		t.Errorf("%q", got)
	}
}

func TestAliases(t *testing.T) {
	got := aliases("# Aliases\nalias fs-btrfs btrfs\nalias fs-xfs xfs\nalias devname:btrfs-control btrfs\n", map[string]bool{"btrfs": true})
	if string(got) != "alias fs-btrfs btrfs\nalias devname:btrfs-control btrfs\n" {
		t.Errorf("%q", got)
	}
}

func TestLibraries(t *testing.T) {
	sh, err := filepath.EvalSymlinks("/bin/bash")
	if err != nil {
		t.Skip("needs bash")
	}
	if _, err := os.Stat("/usr/lib/x86_64-linux-gnu/libc.so.6"); err != nil {
		t.Skip("needs Debian's library folders")
	}
	libs, err := (&workshop{root: "/"}).libraries(sh)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"libc.so.6", "ld-linux-x86-64.so.2"} {
		if !slices.Contains(libs, "/usr/lib/x86_64-linux-gnu/"+want) {
			t.Errorf("%s needs %q, not %s", sh, libs, want)
		}
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
