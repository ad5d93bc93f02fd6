//go:build linux

package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// BuildSystem builds a host of the flake in dir in the workstation's own store, from
// the image's binary cache, and returns its store path.
func (l *Lab) BuildSystem(ctx context.Context, dir, host string) (string, error) {
	link := filepath.Join(dir, "result-"+host)
	cmd := exec.CommandContext(ctx, "nix", "--extra-experimental-features", "nix-command flakes", "build",
		"--option", "substituters", "file://"+l.Image.Cache, "--option", "require-sigs", "false", "--option", "sandbox", "false",
		"--option", "build-users-group", "", "--out-link", link, fmt.Sprintf("path:%s#nixosConfigurations.%s.config.system.build.toplevel", dir, host))
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", host, err, out)
	}
	return os.Readlink(link)
}

// CopyFlake copies the tiny system's flake into a new folder of the lab and lets
// the lab's user log in to its hosts.
func (l *Lab) CopyFlake() (string, error) {
	dir, err := os.MkdirTemp(l.LAN.Dir(), "flake-")
	if err != nil {
		return "", fmt.Errorf("copy the flake: %w", err)
	}
	if err := os.CopyFS(dir, os.DirFS(l.Image.Flake)); err != nil {
		return "", fmt.Errorf("copy the flake: %w", err)
	}
	keys, err := os.ReadFile(l.authorizedKeys())
	if err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, "authorized_keys"), keys, 0o644)
}
