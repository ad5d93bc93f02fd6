//go:build linux

package lab

import (
	"bytes"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"
)

// user is the one user in the key store, who may log in to every guest.
const user = "lab"

// makeKeys makes a key store with that user and no hosts.
func (l *Lab) makeKeys() error {
	public, err := makeKey(l.UserKey(), user)
	if err != nil {
		return err
	}
	return os.WriteFile(l.authorizedKeys(), public, 0o644)
}

// UserKey is the private key that guests let in.
func (l *Lab) UserKey() string { return filepath.Join(l.Keys, "users", user, "id_ed25519") }

func (l *Lab) authorizedKeys() string { return filepath.Join(l.Keys, "authorized_keys") }

// HostKey returns the path of a host's private key in the key store, for
// Spec.HostKey. It makes the key if the host is new.
func (l *Lab) HostKey(host string) (string, error) {
	return keyAt(filepath.Join(l.Keys, "hosts", host, "ssh_host_ed25519_key"), host)
}

// ForeignKey is like HostKey for a key that is not in the key store.
func (l *Lab) ForeignKey(host string) (string, error) {
	return keyAt(filepath.Join(l.LAN.Dir(), "foreign", host), host)
}

func keyAt(file, comment string) (string, error) {
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	_, err := makeKey(file, comment)
	return file, err
}

// makeKey writes a new ed25519 key pair to file and file.pub and returns the
// public one, a line.
func makeKey(file, comment string) ([]byte, error) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, comment)
	if err != nil {
		return nil, err
	}
	sshPublic, err := ssh.NewPublicKey(public)
	if err != nil {
		return nil, err
	}
	line := fmt.Appendf(nil, "%s %s\n", bytes.TrimSpace(ssh.MarshalAuthorizedKey(sshPublic)), comment)
	return line, errors.Join(
		os.MkdirAll(filepath.Dir(file), 0o700),
		os.WriteFile(file, pem.EncodeToMemory(block), 0o600),
		os.WriteFile(file+".pub", line, 0o644))
}
