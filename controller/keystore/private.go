package keystore

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/crypto/ssh"
)

var (
	// ErrEncrypted is returned for a private key that lies encrypted in the store.
	ErrEncrypted = errors.New("private key is encrypted, and this version of nixctl reads plain keys only")
	// ErrAbsent is returned where the store holds the public key alone.
	ErrAbsent = errors.New("private key is not in the key store")
)

// PrivateKey returns the private host key of the named host as the file's bytes, in
// OpenSSH's format. It refuses a key that others on this workstation may read, one
// that sshd could not use, and one that is not that of the host's .pub file.
func (s *Store) PrivateKey(name string) ([]byte, error) {
	h, err := s.Host(name)
	if err != nil {
		return nil, err
	}
	switch h.Form {
	case Absent:
		return nil, fmt.Errorf("host %q: %w: copy it to %q", name, ErrAbsent, s.hostFile(name, hostKey))
	case Age, GPG:
		plain := s.hostFile(name, hostKey)
		return nil, fmt.Errorf("host %q: %w: decrypt %q to %q, mode 0600, for as long as it is needed", name, ErrEncrypted, plain+"."+string(h.Form), plain)
	}
	b, key, err := readPrivate(s.hostFile(name, hostKey))
	if err != nil {
		return nil, fmt.Errorf("host %q: %w", name, err)
	}
	if !bytes.Equal(key.Marshal(), h.Key.Marshal()) {
		return nil, fmt.Errorf("host %q: its private key belongs to %s but its .pub file says %s: remove whichever is wrong",
			name, ssh.FingerprintSHA256(key), ssh.FingerprintSHA256(h.Key))
	}
	return b, nil
}

// readPrivate reads a plain private key and returns it with its public key.
func readPrivate(path string) ([]byte, ssh.PublicKey, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, nil, fmt.Errorf("private key %q may be read by others (mode %04o): run chmod 600 %q", path, mode, path)
	}
	b, err := read(path)
	if err != nil {
		return nil, nil, err
	}
	raw, err := ssh.ParseRawPrivateKey(b)
	var locked *ssh.PassphraseMissingError
	switch {
	case errors.As(err, &locked):
		return nil, nil, fmt.Errorf("private key %q has a passphrase, which sshd cannot ask for: remove it with ssh-keygen -p -f %q", path, path)
	case err != nil:
		return nil, nil, fmt.Errorf("private key %q: %w", path, err)
	}
	key, ok := raw.(*ed25519.PrivateKey)
	if !ok {
		return nil, nil, fmt.Errorf("private key %q is not an ed25519 key", path)
	}
	public, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		return nil, nil, fmt.Errorf("private key %q: %w", path, err)
	}
	return b, public, nil
}

// exists reports whether something is at path, be it a dangling link.
func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
