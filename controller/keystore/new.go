package keystore

import (
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"
)

// New makes a host key for the named host and the folders it needs. A host that has
// a key, public or private and in whatever form, keeps it, and the error wraps
// [os.ErrExist]; with force the old files are renamed to end in ".old", because
// secrets may be encrypted to the old key.
func (s *Store) New(name string, force bool) (Host, error) {
	if err := CheckName(name); err != nil {
		return Host{}, err
	}
	h, err := s.create(name, force)
	if errors.Is(err, os.ErrExist) {
		return Host{}, fmt.Errorf("host %q has a key in the key store %q: use --force to replace it: %w", name, s.dir, err)
	}
	if err != nil {
		return Host{}, fmt.Errorf("new key of host %q: %w", name, err)
	}
	return h, nil
}

func (s *Store) create(name string, force bool) (Host, error) {
	if err := os.MkdirAll(s.hostFile(name, ""), 0o700); err != nil {
		return Host{}, err
	}
	if err := s.makeWay(name, force); err != nil {
		return Host{}, err
	}
	private, public, err := generate(name)
	if err != nil {
		return Host{}, err
	}
	// The private key first: a host that lacks the other file is still complete.
	path := s.hostFile(name, hostKey)
	if err := writeNew(path, private, 0o600); err != nil {
		return Host{}, err
	}
	line := AuthorizedKey{Key: public, Comment: name}.String() + "\n"
	if err := writeNew(path+".pub", []byte(line), 0o644); err != nil {
		return Host{}, err
	}
	return Host{Name: name, Key: public, Form: Plain}, nil
}

// makeWay refuses to go on where files of a host key are, or renames them.
func (s *Store) makeWay(name string, force bool) error {
	for _, suffix := range []string{"", ".age", ".gpg", ".pub"} {
		path := s.hostFile(name, hostKey+suffix)
		there, err := exists(path)
		switch {
		case err != nil:
			return err
		case !there:
		case !force:
			return &os.PathError{Op: "create", Path: path, Err: os.ErrExist}
		default:
			if err := os.Rename(path, path+".old"); err != nil {
				return err
			}
		}
	}
	return nil
}

// generate returns an ed25519 key pair, the private half in OpenSSH's format.
func generate(comment string) ([]byte, ssh.PublicKey, error) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, comment)
	if err != nil {
		return nil, nil, err
	}
	key, err := ssh.NewPublicKey(public)
	return pem.EncodeToMemory(block), key, err
}

// writeNew writes a file that must not exist, so that at any time the whole of it or
// nothing is at path. Its mode is 0600 while it is written.
func writeNew(path string, data []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	// Unlike a rename, a link never replaces what is there.
	if err := os.Link(f.Name(), path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// syncFolder makes the names in dir survive a power failure.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
