package keystore

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unicode"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// WriteKnownHosts writes the hosts of the store to w as lines of known_hosts, each
// under its own name, so that ssh proves a machine with HostKeyAlias. Hosts that
// cannot be read are in the error.
func (s *Store) WriteKnownHosts(w io.Writer) error {
	hosts, hostErr := s.Hosts()
	for _, h := range hosts {
		if _, err := fmt.Fprintln(w, knownhosts.Line([]string{h.Name}, h.Key)); err != nil {
			return err
		}
	}
	return hostErr
}

// ErrOtherKey is returned by [AppendKnownHosts] for a name that is known by another
// key of the same kind.
var ErrOtherKey = errors.New("another host key is known")

// AppendKnownHosts makes key known for names in the known_hosts file at path, which
// it creates (0600) if need be. Names are as ssh is given them: a host name or an
// address, with ":port" where it is not 22. Hashed names and patterns in the file are
// understood.
//
// It only ever appends, in one write, so that it never loses what ssh or the user
// adds at the same time; what is known already is not written again. It changes
// nothing if one of names has another key of the same kind: to drop that is the
// user's decision, and the error, which wraps [ErrOtherKey], says how.
func AppendKnownHosts(path string, names []string, key ssh.PublicKey) error {
	if err := appendKnown(path, names, key); err != nil {
		return fmt.Errorf("known hosts: %w", err)
	}
	return nil
}

func appendKnown(path string, names []string, key ssh.PublicKey) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close() // and so unlock
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock %q: %w", path, err)
	}
	unknown, err := unknownNames(path, names, key)
	if err != nil || len(unknown) == 0 {
		return err
	}
	line := knownhosts.Line(unknown, key) + "\n"
	if whole, err := endsLine(f); err != nil {
		return err
	} else if !whole {
		line = "\n" + line
	}
	if _, err := f.WriteString(line); err != nil {
		return err
	}
	return f.Sync()
}

// unknownNames returns those of names that the file at path does not know by key.
func unknownNames(path string, names []string, key ssh.PublicKey) ([]string, error) {
	check, err := knownhosts.New(path)
	if err != nil {
		return nil, fmt.Errorf("correct or remove the line: %w", err)
	}
	var unknown []string
	for _, name := range names {
		address, err := dialAddress(name)
		if err != nil {
			return nil, err
		}
		err = check(address, &net.TCPAddr{}, key)
		var known *knownhosts.KeyError
		switch {
		case err == nil:
			continue
		case !errors.As(err, &known): // revoked
			return nil, fmt.Errorf("%q: %w", name, err)
		}
		for _, w := range known.Want {
			if w.Key.Type() == key.Type() {
				return nil, fmt.Errorf("%w for %q, %s in %s:%d: if the machine was meant to get a new one, run: ssh-keygen -R %q -f %q",
					ErrOtherKey, name, ssh.FingerprintSHA256(w.Key), w.Filename, w.Line, knownhosts.Normalize(address), path)
			}
		}
		unknown = append(unknown, name)
	}
	return unknown, nil
}

// dialAddress returns name with its port. What would be a pattern, a list or a
// marker in known_hosts is refused.
func dialAddress(name string) (string, error) {
	host, port, err := net.SplitHostPort(name)
	if err != nil {
		host, port = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]"), "22"
	}
	bad := func(r rune) bool {
		return unicode.IsSpace(r) || !unicode.IsPrint(r) || strings.ContainsRune(",*?!|#@[]\"'", r)
	}
	if host == "" || strings.ContainsFunc(host+port, bad) {
		return "", fmt.Errorf("%q is not a host name or an address", name)
	}
	return net.JoinHostPort(host, port), nil
}

// endsLine reports whether f is empty or ends with a line feed.
func endsLine(f *os.File) (bool, error) {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return true, err
	}
	last := make([]byte, 1)
	_, err = f.ReadAt(last, info.Size()-1)
	return last[0] == '\n', err
}
