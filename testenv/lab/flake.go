//go:build linux

package lab

import (
	"fmt"
	"os"
	"path/filepath"
)

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
