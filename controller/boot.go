package controller

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/nixctl/nixctl/controller/keystore"
	"github.com/nixctl/nixctl/install/command"
	"github.com/nixctl/nixctl/install/target"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// A bootState tells which boot of a machine this is, and what runs.
type bootState struct{ bootID, system string }

// inspectBoot reads the boot state with tools that every NixOS has.
func inspectBoot(ctx context.Context, t *target.Target) (bootState, error) {
	out, err := t.Output(ctx, command.New("sh", "-c", "cat /proc/sys/kernel/random/boot_id; readlink -f /run/current-system"))
	if err != nil {
		return bootState{}, err
	}
	boot, system, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if len(boot) != 36 {
		return bootState{}, fmt.Errorf("the answer %q is no boot id", boot)
	}
	return bootState{bootID: boot, system: strings.TrimSpace(system)}, nil
}

// remember writes the host's proved key to a known_hosts file of its own, which it
// returns, and to ~/.ssh/known_hosts, so that ssh asks no question. A line of the
// user's that says otherwise is kept, and reported.
func remember(host string, addr netip.AddrPort, key ssh.PublicKey) (string, error) {
	runs, err := runsDir(host)
	if err != nil {
		return "", err
	}
	names := []string{host, knownhosts.Normalize(addr.String())}
	own := filepath.Join(runs, "known_hosts")
	if err := os.Remove(own); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("replace %q: %w", own, err)
	}
	if err := keystore.AppendKnownHosts(own, names, key); err != nil {
		return "", err
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return own, nil
	}
	if err := keystore.AppendKnownHosts(filepath.Join(home, ".ssh", "known_hosts"), names, key); err != nil {
		return own, fmt.Errorf("your own known_hosts was left as it is: %w", err)
	}
	return own, nil
}
