package nix

import (
	"bytes"
	_ "embed"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"text/template"
	"unicode"
)

// Minimal describes the configuration that a user who has none yet starts with: a
// host that boots, gets its address by DHCP and lets the user log in as root by key.
// File systems and kernel modules are in the hardware-configuration.nix that
// nixos-generate-config writes beside it.
type Minimal struct {
	Host           string   // a host name, one label of RFC 1123
	UEFI           bool     // the machine was booted by UEFI firmware
	BootDisk       string   // where GRUB goes on a BIOS machine: the disk, best by a /dev/disk/by-id link
	AuthorizedKeys []string // lines as in authorized_keys: who may log in; at least one
	Release        string   // NixOS version of the installer, "25.05.20250601.abcdef" or "25.05"
}

// oldestRelease is what system.stateVersion says if the installer does not tell its
// release. An old value is always safe: it asks newer releases to keep old habits.
const oldestRelease = "25.05"

//go:embed minimal.nix.tmpl
var minimalText string

var minimalTemplate = template.Must(template.New("configuration.nix").
	Funcs(template.FuncMap{"quote": Quote}).Parse(minimalText))

// Files returns the configuration's files by name: configuration.nix alone, today.
func (m Minimal) Files() (map[string][]byte, error) {
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("minimal configuration: %w", err)
	}
	m.Release = release(m.Release)
	var b bytes.Buffer
	if err := minimalTemplate.Execute(&b, m); err != nil {
		return nil, fmt.Errorf("minimal configuration: %w", err)
	}
	return map[string][]byte{"configuration.nix": b.Bytes()}, nil
}

var label = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)

func (m Minimal) check() error {
	if !label.MatchString(m.Host) {
		return fmt.Errorf("%q is not a host name: letters, digits and inner hyphens, 63 at most", m.Host)
	}
	if !m.UEFI && !strings.HasPrefix(m.BootDisk, "/dev/") {
		return fmt.Errorf("boot disk %q is not below /dev: GRUB needs a disk on a BIOS machine", m.BootDisk)
	}
	if len(m.AuthorizedKeys) == 0 {
		return errors.New("no SSH key may log in, so nobody could: give at least one public key")
	}
	for _, k := range m.AuthorizedKeys {
		if err := checkAuthorizedKey(k); err != nil {
			return fmt.Errorf("authorized key %q: %w", k, err)
		}
	}
	return nil
}

var releasePrefix = regexp.MustCompile(`^[0-9]{2}\.[0-9]{2}`)

// release returns the "25.05" of a NixOS version.
func release(version string) string {
	if r := releasePrefix.FindString(version); r != "" {
		return r
	}
	return oldestRelease
}

// checkAuthorizedKey reports why line would not let anybody log in. The blob of a
// public key begins with its type once more (RFC 4253, 6.6), which tells a key that
// was cut or mixed up.
func checkAuthorizedKey(line string) error {
	if strings.IndexFunc(line, unicode.IsControl) >= 0 {
		return errors.New("it holds control characters: one key a line")
	}
	fields := strings.Fields(line)
	for i, f := range fields {
		if !keyType.MatchString(f) {
			continue // options, or a part of them
		}
		if i+1 == len(fields) {
			break
		}
		blob, err := base64.StdEncoding.DecodeString(fields[i+1])
		if err != nil || len(blob) < 4+len(f) || int(binary.BigEndian.Uint32(blob)) != len(f) || string(blob[4:4+len(f)]) != f {
			return fmt.Errorf("what follows %s is not such a key", f)
		}
		return nil
	}
	return errors.New("it holds no public key, such as one that begins with ssh-ed25519")
}

var keyType = regexp.MustCompile(`^(ssh|ecdsa-sha2|sk-ssh|sk-ecdsa-sha2)-[a-z0-9@.-]+$`)
