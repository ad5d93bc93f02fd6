package nix

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// pipe runs argv with input and returns what it prints.
func pipe(t *testing.T, input string, argv ...string) string {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin = strings.NewReader(input)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%q: %v\n%s", argv, err, stderr.String())
	}
	return string(out)
}

// stocked returns a store with a system in it that needs one other path, and the two.
// The system is registered by hand because nothing can be built in such a store
// without a builder in it.
func stocked(t *testing.T) (store Store, dep, system string) {
	t.Helper()
	needs(t, "nix-store")
	t.Setenv("NIX_CONFIG", "build-users-group =\nsubstituters =\n")
	store, system = Store{Root: tempDir(t)}, toplevel
	file := filepath.Join(t.TempDir(), "kernel")
	if err := os.WriteFile(file, bytes.Repeat([]byte("vmlinuz "), 1000), 0o644); err != nil {
		t.Fatal(err)
	}
	dep = strings.TrimSpace(pipe(t, "", "nix-store", "--store", store.Root, "--add", file))
	dir := filepath.Join(store.Root, system)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "system"), []byte("x86_64-linux"), 0o444); err != nil {
		t.Fatal(err)
	}
	symlink(t, dep, filepath.Join(dir, "kernel"))
	nar := pipe(t, "", "nix-store", "--store", store.Root, "--dump", dir)
	pipe(t, fmt.Sprintf("%s\n%x\n%d\n\n1\n%s\n", system, sha256.Sum256([]byte(nar)), len(nar), dep),
		"nix-store", "--store", store.Root, "--load-db")
	return store, dep, system
}

// TestClosure sends a system from one store to another with the commands that an
// installation uses.
func TestClosure(t *testing.T) {
	store, dep, system := stocked(t)
	paths, err := store.Requisites(t.Context(), system)
	if want := []string{dep, system}; err != nil || !slices.Equal(paths, want) {
		t.Fatalf("got %q, %v, want %q", paths, err, want)
	}
	sizes, err := store.Sizes(t.Context(), paths)
	if err != nil || len(sizes) != 2 || sizes[0] < 8000 || sizes[1] < 100 || sizes[1] > 8000 {
		t.Fatalf("got sizes %v, %v", sizes, err)
	}
	if arch, err := store.SystemArchitecture(system); err != nil || arch != "x86_64-linux" {
		t.Errorf("got architecture %q, %v", arch, err)
	}

	target := tempDir(t)
	lines := strings.Join(paths, "\n") + "\n"
	if got := pipe(t, lines, MissingCommand(target)...); got != lines {
		t.Errorf("an empty store lacks %q, want %q", got, lines)
	}
	var export bytes.Buffer
	if err := store.Export(t.Context(), paths[:1], &export); err != nil {
		t.Fatal(err)
	}
	pipe(t, export.String(), ImportCommand(target)...)
	if got := pipe(t, lines, MissingCommand(target)...); got != system+"\n" {
		t.Errorf("after half of it the store lacks %q", got)
	}
	export.Reset()
	if err := store.Export(t.Context(), paths[1:], &export); err != nil {
		t.Fatal(err)
	}
	pipe(t, export.String(), ImportCommand(target)...)
	if got := pipe(t, lines, MissingCommand(target)...); got != "" {
		t.Errorf("after all of it the store lacks %q", got)
	}
	pipe(t, "", "nix-store", "--store", target, "--verify", "--check-contents")
	if got, err := (Store{Root: target}).Requisites(t.Context(), system); err != nil || !slices.Equal(got, paths) {
		t.Errorf("the copy needs %q, %v, want %q", got, err, paths)
	}
	if got := pipe(t, "", MissingCommand(target)...); got != "" {
		t.Errorf("of no paths %q are missing", got)
	}
}

var errWriter = errors.New("link is down")

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errWriter }

func TestClosureErrors(t *testing.T) {
	store, dep, system := stocked(t)
	if err := store.Export(t.Context(), []string{dep, system}, brokenWriter{}); !errors.Is(err, errWriter) {
		t.Errorf("broken link: %v", err)
	}
	unknown := "/nix/store/qp2422fm4lgfh6979k71gsw0n9nf512m-unknown"
	if _, err := store.Requisites(t.Context(), unknown); err == nil || !strings.Contains(err.Error(), "is not valid") {
		t.Errorf("unknown path: %v", err)
	}
	if _, err := store.Sizes(t.Context(), []string{dep, unknown}); err == nil || !strings.Contains(err.Error(), "is not valid") {
		t.Errorf("size of an unknown path: %v", err)
	}
	if got, err := store.Sizes(t.Context(), nil); len(got) != 0 || err != nil {
		t.Errorf("sizes of nothing: %v, %v", got, err)
	}
	for _, option := range []string{"--delete", "-v", ""} {
		_, err := store.Requisites(t.Context(), option)
		_, err2 := store.Sizes(t.Context(), []string{option})
		err3 := store.Export(t.Context(), []string{option}, &bytes.Buffer{})
		if err == nil || err2 == nil || err3 == nil {
			t.Errorf("%q reached nix-store: %v, %v, %v", option, err, err2, err3)
		}
	}
	if _, err := store.SystemArchitecture(dep); err == nil || !strings.Contains(err.Error(), "does not look like a NixOS system") {
		t.Errorf("architecture of a file: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := store.Requisites(ctx, system); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	t.Setenv("PATH", "")
	if _, err := store.Requisites(t.Context(), system); !errors.Is(err, exec.ErrNotFound) || !strings.Contains(err.Error(), "not installed") {
		t.Errorf("without nix: %v", err)
	}
}

func TestStorePath(t *testing.T) {
	if got, err := StorePath(toplevel); got != toplevel || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	dir := t.TempDir()
	for path, why := range map[string]string{dir: "not in the nix store", filepath.Join(dir, "result"): "no such file"} {
		if got, err := StorePath(path); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("StorePath(%q) = %q, %v, want an error with %q", path, got, err, why)
		}
	}
}
