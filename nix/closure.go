package nix

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// A Store is a Nix store of this workstation, used through nix-store.
type Store struct {
	Root string // folder that holds nix/store, as with nix-store --store; empty for the usual store
}

func (s Store) command(ctx context.Context, args ...string) *exec.Cmd {
	if s.Root != "" {
		args = append([]string{"--store", s.Root}, args...)
	}
	cmd := exec.CommandContext(ctx, "nix-store", args...)
	cmd.WaitDelay = waitDelay
	return cmd
}

// checkPaths keeps whatever is not a store path from becoming an option of nix-store.
func checkPaths(paths ...string) error {
	for _, p := range paths {
		if !IsStorePath(p) {
			return fmt.Errorf("%q is not a path of the nix store", p)
		}
	}
	return nil
}

// StorePath returns the store path that path is or, like the result link of nix
// build, leads to.
func StorePath(path string) (string, error) {
	if IsStorePath(path) {
		return path, nil
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", fmt.Errorf("system %q: %w", path, err)
	}
	if !IsStorePath(real) {
		return "", fmt.Errorf("system %q is not in the nix store: give a store path or a link to one", path)
	}
	return real, nil
}

// Requisites returns path and all paths that it refers to, directly or not, each
// after those that it needs.
func (s Store) Requisites(ctx context.Context, path string) ([]string, error) {
	if err := checkPaths(path); err != nil {
		return nil, fmt.Errorf("closure: %w", err)
	}
	out, err := output(ctx, s.command(ctx, "--query", "--requisites", path))
	if err != nil {
		return nil, fmt.Errorf("closure of %q: %w", path, err)
	}
	paths := strings.Fields(string(out))
	if err := checkPaths(paths...); err != nil {
		return nil, fmt.Errorf("closure of %q: nix-store printed more than paths: %w", path, err)
	}
	return paths, nil
}

// Sizes returns the size in bytes of each of paths, as nix packs it for sending.
func (s Store) Sizes(ctx context.Context, paths []string) ([]int64, error) {
	if len(paths) == 0 {
		return nil, nil
	}
	if err := checkPaths(paths...); err != nil {
		return nil, fmt.Errorf("size of store paths: %w", err)
	}
	out, err := output(ctx, s.command(ctx, append([]string{"--query", "--size"}, paths...)...))
	if err != nil {
		return nil, fmt.Errorf("size of store paths: %w", err)
	}
	lines := strings.Fields(string(out))
	if len(lines) != len(paths) {
		return nil, fmt.Errorf("size of store paths: nix-store printed %d sizes for %d paths", len(lines), len(paths))
	}
	sizes := make([]int64, len(lines))
	for i, l := range lines {
		if sizes[i], err = strconv.ParseInt(l, 10, 64); err != nil {
			return nil, fmt.Errorf("size of %q: %w", paths[i], err)
		}
	}
	return sizes, nil
}

// Export writes paths to w in the form that [ImportCommand] reads, each after those
// that it needs. With no paths it writes an empty export.
func (s Store) Export(ctx context.Context, paths []string, w io.Writer) error {
	if err := checkPaths(paths...); err != nil {
		return fmt.Errorf("export store paths: %w", err)
	}
	cmd := s.command(ctx, append([]string{"--export"}, paths...)...)
	stdout, stderr := &receiver{w: w}, &capped{max: 64 << 10}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	err := cmd.Run()
	switch {
	case stdout.err != nil: // nix-store only complains of a broken pipe then
		return fmt.Errorf("export store paths: %w", stdout.err)
	case err != nil:
		return fmt.Errorf("export store paths: %w", explain(ctx, cmd, err, stderr.Bytes()))
	}
	return nil
}

// receiver remembers why writing to w failed.
type receiver struct {
	w   io.Writer
	err error
}

func (r *receiver) Write(p []byte) (int, error) {
	n, err := r.w.Write(p)
	r.err = err
	return n, err
}

var system = regexp.MustCompile(`^[a-z0-9_]+-[a-z]+$`)

// SystemArchitecture returns for what kind of machine a NixOS system was built, such
// as "x86_64-linux". Every system says so in its file "system".
func (s Store) SystemArchitecture(path string) (string, error) {
	f, err := os.Open(filepath.Join(s.Root, path, "system"))
	if err != nil {
		return "", fmt.Errorf("%q does not look like a NixOS system: %w", path, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 64))
	if err != nil {
		return "", fmt.Errorf("architecture of %q: %w", path, err)
	}
	name := strings.TrimSpace(string(b))
	if !system.MatchString(name) {
		return "", fmt.Errorf("architecture of %q: its file \"system\" says %q", path, name)
	}
	return name, nil
}

// MissingCommand returns the command that reads store paths, one a line, and prints
// those that the store below root lacks. The paths go through standard input because
// those of a whole system are longer than a command line over SSH may be.
func MissingCommand(root string) []string {
	return []string{"xargs", "--no-run-if-empty", "--delimiter=\\n",
		"nix-store", "--store", root, "--check-validity", "--print-invalid"}
}

// ImportCommand returns the command that reads what [Store.Export] wrote into the
// store below root. Run by root it needs no signatures; the sender is trusted
// because it came over the SSH connection of the user.
func ImportCommand(root string) []string {
	return []string{"nix-store", "--store", root, "--import"}
}
