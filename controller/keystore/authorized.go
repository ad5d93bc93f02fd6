package keystore

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// An AuthorizedKey is a public key that may log in.
type AuthorizedKey struct {
	Key     ssh.PublicKey
	Comment string
	Options []string // such as "no-pty", as they stand in authorized_keys (sshd(8))
	File    string   // where it was found
}

// String returns the key as a line of authorized_keys, without the line feed.
func (k AuthorizedKey) String() string {
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k.Key)))
	if len(k.Options) > 0 {
		line = strings.Join(k.Options, ",") + " " + line
	}
	if k.Comment != "" {
		line += " " + k.Comment
	}
	return line
}

// AuthorizedKeys returns who may log in: the keys of the file authorized_keys and
// those of the store's users, each once. What cannot be read is named in the error;
// the other keys are returned all the same. A store may have none, and then it is
// for the caller to look elsewhere, for instance with [UserKeys].
func (s *Store) AuthorizedKeys() ([]AuthorizedKey, error) {
	return readKeys(s.dir, "authorized_keys", "users/*/id_*.pub", "home/*/id_*.pub")
}

// UserKeys returns the public keys in a user's .ssh folder, as AuthorizedKeys does.
func UserKeys(dir string) ([]AuthorizedKey, error) {
	return readKeys(dir, "id_*.pub")
}

// readKeys reads the files of dir that match patterns. Of a key that is there twice
// the first counts, with its options.
func readKeys(dir string, patterns ...string) ([]AuthorizedKey, error) {
	var keys []AuthorizedKey
	var errs []error
	for _, p := range patterns {
		names, err := fs.Glob(os.DirFS(dir), p)
		errs = append(errs, err)
		for _, name := range names {
			file := filepath.Join(dir, name)
			b, err := read(file)
			found, parseErr := parseKeys(file, b)
			keys = append(keys, found...)
			errs = append(errs, err, parseErr)
		}
	}
	seen := make(map[string]bool)
	keys = slices.DeleteFunc(keys, func(k AuthorizedKey) bool {
		id := string(k.Key.Marshal())
		again := seen[id]
		seen[id] = true
		return again
	})
	return keys, errors.Join(errs...)
}

// parseKeys parses authorized_keys or a .pub file. Lines that hold no key are named
// in the error, because a key that is ignored in silence locks its owner out.
func parseKeys(file string, b []byte) ([]AuthorizedKey, error) {
	var keys []AuthorizedKey
	var errs []error
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, maxFile)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		key, comment, options, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: not a public key: %w", file, n, err))
			continue
		}
		keys = append(keys, AuthorizedKey{key, comment, options, file})
	}
	return keys, errors.Join(append(errs, lines.Err())...)
}
