package login

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"

	"github.com/kevinburke/ssh_config"
)

// A sshConfig is what ssh_config(5) files say of one machine, the user's first.
type sshConfig struct {
	files []*ssh_config.Config
	names []string // under which the machine is looked up
}

// readConfig reads the files that are there. One that cannot be read (the library
// knows no "Match exec") is left out with a note: it must not stop an installation.
func readConfig(names []string, files ...string) (c sshConfig, notes []string) {
	for _, n := range names {
		if n != "" {
			c.names = append(c.names, n)
		}
	}
	for _, name := range files {
		b, err := readSmall(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var parsed *ssh_config.Config
		if err == nil {
			parsed, err = ssh_config.DecodeBytes(b)
		}
		if err != nil {
			notes = append(notes, fmt.Sprintf("%q is left out: %v", name, err))
			continue
		}
		c.files = append(c.files, parsed)
	}
	return c, notes
}

func (c sshConfig) get(option string) string {
	if all := c.all(option); len(all) > 0 {
		return all[0]
	}
	return ""
}

// all returns the values in the order of the files, for each name in turn.
func (c sshConfig) all(option string) (values []string) {
	for _, n := range c.names {
		for _, f := range c.files {
			v, err := f.GetAll(n, option)
			if err == nil {
				values = append(values, v...)
			}
		}
	}
	return values
}

// expand replaces "~/" and the tokens of ssh_config(5) that make sense in a path.
func expand(path, home, host, remote string) string {
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		path = filepath.Join(home, rest)
	}
	local := ""
	if u, err := user.Current(); err == nil {
		local = u.Username
	}
	path = strings.NewReplacer("%%", "%", "%d", home, "%h", host, "%r", remote, "%u", local).Replace(path)
	if strings.Contains(path, "${") {
		path = os.Expand(path, os.Getenv)
	}
	return path
}

// readSmall reads a file of up to 1 MiB.
func readSmall(name string) ([]byte, error) {
	const limit = 1 << 20
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > limit {
		return nil, fmt.Errorf("%q is no file of up to %d bytes", name, limit)
	}
	return os.ReadFile(name)
}
