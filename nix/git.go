package nix

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// workTree returns the root of the git work tree that dir lies in, found as nix
// finds it, by a .git in dir or above; empty if there is none.
func workTree(dir string) string {
	for {
		if _, err := os.Lstat(filepath.Join(dir, ".git")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return ""
		}
		dir = parent
	}
}

// readTracked lists what git tracks below dir, which lies in the work tree root.
func readTracked(ctx context.Context, root, dir string) (*Tree, error) {
	staged, err := git(ctx, dir, "ls-files", "-z", "--cached", "--stage")
	if err != nil {
		return nil, err
	}
	untracked, err := git(ctx, dir, "ls-files", "-z", "--others", "--exclude-standard")
	if err != nil {
		return nil, err
	}
	t := &Tree{Root: dir, Sub: ".", Untracked: split(untracked)}
	if err := t.addStaged(split(staged)); err != nil {
		return nil, fmt.Errorf("read %q: %w", root, err)
	}
	t.sort()
	return t, nil
}

// addStaged adds the files of git's index, given as "MODE OBJECT STAGE\tNAME".
func (t *Tree) addStaged(entries []string) error {
	last := ""
	for _, e := range entries {
		info, name, ok := strings.Cut(e, "\t")
		if !ok || !filepath.IsLocal(name) {
			return fmt.Errorf("git lists %q, which is no file of the work tree", e)
		}
		if name == last {
			continue // a conflict lists each of its sides
		}
		last = name
		if strings.HasPrefix(info, "160000 ") {
			t.Submodules = append(t.Submodules, name)
			continue
		}
		// A file that was deleted but not with git rm is still in the index.
		if err := t.add(name); err != nil && !gone(err) {
			return err
		}
	}
	return nil
}

// gone reports whether err says that a file is not there, be it that a folder above
// it has become a file.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// git runs git in dir. A file system monitor, which the work tree's configuration
// may name, is a program that is not needed here and is not run.
func git(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", dir, "-c", "core.fsmonitor=false"}, args...)...)
	cmd.WaitDelay = waitDelay
	// Set in a git hook, these would name some other work tree.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return name == "GIT_DIR" || name == "GIT_WORK_TREE" || name == "GIT_INDEX_FILE" || name == "GIT_PREFIX"
	})
	return output(ctx, cmd)
}

// split splits names that end with NUL.
func split(b []byte) []string {
	if len(b) == 0 {
		return nil
	}
	return strings.Split(string(bytes.TrimSuffix(b, []byte{0})), "\x00")
}
