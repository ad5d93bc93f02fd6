// Package keystore reads and extends the user's folder of keys: which hosts there
// are, by which SSH host key each is recognised, and who may log in.
//
//	KEYS/hosts/<host>/ssh_host_ed25519_key[.age|.gpg]  ssh_host_ed25519_key.pub
//	KEYS/users/<user>/id_ed25519.pub                   (home/<user>/ too)
//	KEYS/authorized_keys
//
// Public keys are enough to discover and verify machines. Only [Store.PrivateKey]
// and a host without a .pub file need a private key.
package keystore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/crypto/ssh"
)

// A Store is a folder of keys. It may not exist yet.
type Store struct {
	dir string
}

// Open returns the key store in the folder dir. Whoever can write there decides which
// machines are trusted, so a folder that everybody may write is refused.
func Open(dir string) (*Store, error) {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &Store{dir}, nil
	case err != nil:
		return nil, fmt.Errorf("key store: %w", err)
	case !info.IsDir():
		return nil, fmt.Errorf("key store %q is not a folder", dir)
	case info.Mode()&0o002 != 0:
		return nil, fmt.Errorf("key store %q may be changed by anybody: run chmod o-w %q", dir, dir)
	}
	return &Store{dir}, nil
}

// String returns the folder of the store.
func (s *Store) String() string { return s.dir }

// A Form is the way in which a private key lies in the store.
type Form string

// The forms.
const (
	Absent Form = "" // only the public key is here
	Plain  Form = "plain"
	Age    Form = "age"
	GPG    Form = "gpg"
)

// suffixes are what each form adds to the name of the key's file, the one that is
// preferred first.
var suffixes = []struct {
	form   Form
	suffix string
}{{Plain, ""}, {Age, ".age"}, {GPG, ".gpg"}}

// A Host is an identity of the store.
type Host struct {
	Name string
	Key  ssh.PublicKey // an ed25519 key
	Form Form          // of the private key
}

const hostKey = "ssh_host_ed25519_key"

// maxFile bounds the files that are read. Keys have some hundred bytes, an
// authorized_keys file of a large team has some ten thousand.
const maxFile = 1 << 20

var label = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)

// CheckName reports why name cannot be that of a host: it is one label of a host name
// (RFC 1123, 2.1), which also keeps it from being a path.
func CheckName(name string) error {
	if !label.MatchString(name) {
		return fmt.Errorf("%q is not a host name: letters, digits and inner hyphens, 63 at most", name)
	}
	return nil
}

// Hosts returns the hosts of the store, sorted by name. Hosts that cannot be read
// are left out and each is named in the error; the others are returned all the same.
func (s *Store) Hosts() ([]Host, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, "hosts"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("key store: %w", err)
	}
	var hosts []Host
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || e.Type().IsRegular() {
			continue // .gitkeep, README and the like
		}
		h, err := s.Host(e.Name())
		if err != nil {
			errs = append(errs, err)
			continue
		}
		hosts = append(hosts, h)
	}
	return hosts, errors.Join(errs...)
}

// Host returns the named host. The error wraps [fs.ErrNotExist] if the store does not
// have it.
func (s *Store) Host(name string) (Host, error) {
	if err := CheckName(name); err != nil {
		return Host{}, fmt.Errorf("key store %q: %w", s.dir, err)
	}
	if _, err := os.Stat(s.hostFile(name, "")); err != nil {
		return Host{}, fmt.Errorf("host %q is not in the key store %q: make its key with: nixctl keys new %s: %w", name, s.dir, name, err)
	}
	h := Host{Name: name}
	for _, f := range suffixes {
		if _, err := os.Stat(s.hostFile(name, hostKey+f.suffix)); err == nil {
			h.Form = f.form
			break
		}
	}
	key, err := s.publicKey(h)
	if err != nil {
		return Host{}, fmt.Errorf("host %q: %w", name, err)
	}
	h.Key = key
	return h, nil
}

func (s *Store) hostFile(host, file string) string {
	return filepath.Join(s.dir, "hosts", host, file)
}

// publicKey reads the public key of h or derives it from a plain private one.
func (s *Store) publicKey(h Host) (ssh.PublicKey, error) {
	path := s.hostFile(h.Name, hostKey+".pub")
	b, err := read(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && h.Form == Plain:
		_, key, err := readPrivate(s.hostFile(h.Name, hostKey))
		return key, err
	case errors.Is(err, fs.ErrNotExist) && h.Form != Absent:
		return nil, fmt.Errorf("its private key is encrypted and %q is missing: write it with ssh-keygen -y", path)
	case err != nil:
		return nil, err
	}
	keys, err := parseKeys(path, b)
	if err != nil {
		return nil, err
	}
	if len(keys) != 1 || keys[0].Key.Type() != ssh.KeyAlgoED25519 {
		return nil, fmt.Errorf("%q does not hold one ed25519 public key", path)
	}
	return keys[0].Key, nil
}

// read returns the contents of a regular file, within bounds.
func read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return nil, fmt.Errorf("%q is not a file of keys", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFile))
}
