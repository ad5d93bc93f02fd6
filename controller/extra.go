package controller

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/nixctl/nixctl/install"
	"github.com/nixctl/nixctl/install/target"
)

// maxExtra bounds how many extra files are copied.
const maxExtra = 50_000

// An owner rule says whom a path of the new system and all below it belongs to.
type ownerRule struct {
	path     string
	uid, gid int
}

func parseOwner(s string) (ownerRule, error) {
	p, ids, ok := strings.Cut(s, "=")
	u, g, ok2 := strings.Cut(ids, ":")
	uid, err := strconv.ParseUint(u, 10, 31)
	gid, err2 := strconv.ParseUint(g, 10, 31)
	if !ok || !ok2 || err != nil || err2 != nil || !path.IsAbs(p) {
		return ownerRule{}, fmt.Errorf("%w: --owner %q: want /PATH=UID:GID with numbers, as names are not known before the system is installed", errUsage, s)
	}
	return ownerRule{path.Clean(p), int(uid), int(gid)}, nil
}

func (r ownerRule) covers(p string) bool {
	return p == r.path || strings.HasPrefix(p, strings.TrimSuffix(r.path, "/")+"/")
}

// extraFiles lists the tree of --extra-files as it will be below the new root. Folders
// are made with mode 0755 where they are missing and otherwise left alone; only those
// under an --owner rule get the mode and owner that were asked for.
func (o *installOptions) extraFiles() ([]target.File, error) {
	if o.ExtraFiles == "" {
		return nil, nil
	}
	var rules []ownerRule
	for _, s := range o.Owners.Value() {
		r, err := parseOwner(s)
		if err != nil {
			return nil, err
		}
		rules = append(rules, r)
	}
	used := make([]bool, len(rules))
	var files []target.File
	err := filepath.WalkDir(o.ExtraFiles, func(local string, d fs.DirEntry, err error) error {
		if err != nil || local == o.ExtraFiles {
			return err
		}
		f, err := extraFile(o.ExtraFiles, local, d)
		if err != nil {
			return err
		}
		covered := false
		for i, r := range rules { // the last rule that covers a path counts
			if r.covers(strings.TrimPrefix(f.Path, install.Root)) {
				f.UID, f.GID, used[i], covered = r.uid, r.gid, true, true
			}
		}
		if d.IsDir() && !covered {
			return nil
		}
		if files = append(files, f); len(files) > maxExtra {
			return fmt.Errorf("--extra-files %q holds more than %d files", o.ExtraFiles, maxExtra)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the extra files: %w", err)
	}
	for i, r := range rules {
		if !used[i] {
			return nil, fmt.Errorf("%w: --owner: there is no %q in --extra-files %q", errUsage, r.path, o.ExtraFiles)
		}
	}
	return files, nil
}

func extraFile(root, local string, d fs.DirEntry) (target.File, error) {
	rel, err := filepath.Rel(root, local)
	if err != nil {
		return target.File{}, err
	}
	info, err := d.Info()
	if err != nil {
		return target.File{}, err
	}
	f := target.File{Path: path.Join(install.Root, filepath.ToSlash(rel)), Mode: info.Mode()}
	switch info.Mode().Type() {
	case fs.ModeDir:
	case fs.ModeSymlink:
		f.Link, err = os.Readlink(local)
	case 0:
		f.Size = info.Size()
		f.Open = func() (io.ReadCloser, error) { return os.Open(local) }
	default:
		err = fmt.Errorf("%q is neither a file nor a folder nor a symlink", local)
	}
	return f, err
}
