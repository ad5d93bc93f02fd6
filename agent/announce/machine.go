//go:build linux

package announce

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/nixctl/nixctl/discovery/beacon"
)

// A Machine is where a claim is read from.
type Machine struct {
	HostKey string // the public half of the SSH host key; it may not be there yet
	Name    string // if empty, from the key bundle, else the kernel's host name
	Version string // of the agent
	Root    string // under which the files of the system lie; if empty, "/"
}

// maxValue bounds what is said of one thing, so that all records fit one
// unfragmented packet.
const maxValue = 100

// Claim says what m is, for the network card with the given address. It fails as
// long as there is no host key: without one there is nothing to recognise.
func (m Machine) Claim(card net.HardwareAddr) (beacon.Claim, error) {
	fingerprint, err := m.fingerprint()
	if err != nil {
		return beacon.Claim{}, err
	}
	arch, err := architecture()
	if err != nil {
		return beacon.Claim{}, err
	}
	return beacon.Claim{
		Version:      plain(m.Version),
		Name:         m.name(),
		Fingerprint:  fingerprint,
		Architecture: arch,
		Firmware:     m.firmware(),
		MAC:          card.String(),
		ID:           m.id(card),
		Serial:       m.line("sys/class/dmi/id/product_serial"),
	}, nil
}

// fingerprint is that of the host key, as ssh-keygen -l prints it.
func (m Machine) fingerprint() (string, error) {
	b, err := read(m.HostKey)
	if err != nil {
		return "", fmt.Errorf("read host key: %w", err)
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey(b)
	if err != nil {
		return "", fmt.Errorf("read host key %q: %w", m.HostKey, err)
	}
	return ssh.FingerprintSHA256(key), nil
}

// name is the machine's, as far as it is known.
func (m Machine) name() string {
	if m.Name != "" {
		return plain(m.Name)
	}
	if name := m.line("nixctl/hostname"); name != "" {
		return name
	}
	return m.line("proc/sys/kernel/hostname")
}

// firmware is what the machine was booted by. The kernel makes the folder on UEFI
// machines alone.
func (m Machine) firmware() string {
	if _, err := os.Stat(filepath.Join(m.root(), "sys/firmware/efi")); errors.Is(err, fs.ErrNotExist) {
		return "bios"
	}
	return "uefi"
}

// id differs between machines and between boots. It is a hash because systemd
// asks not to show such ids to the network as they are (machine-id(5)).
func (m Machine) id(card net.HardwareAddr) string {
	sum := sha256.Sum256([]byte(m.line("proc/sys/kernel/random/boot_id") + card.String()))
	return hex.EncodeToString(sum[:8])
}

// line is the text of a small file below m's root; empty if it cannot be read.
func (m Machine) line(path string) string {
	b, err := read(filepath.Join(m.root(), path))
	if err != nil {
		return ""
	}
	return plain(string(b))
}

func (m Machine) root() string {
	if m.Root == "" {
		return "/"
	}
	return m.Root
}

// read reads a file that is meant to be small.
func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 1<<16))
}

// plain makes text of firmware and files fit for a claim, which refuses what a
// terminal would not print.
func plain(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, s)
	return cut(strings.TrimSpace(s), maxValue)
}

// architecture is the machine's, as Nix names it.
func architecture() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", fmt.Errorf("ask the kernel for its architecture: %w", err)
	}
	return unix.ByteSliceToString(u.Machine[:]) + "-linux", nil
}
