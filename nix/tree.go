package nix

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A Tree is a configuration on the workstation: what of it is uploaded, and what
// is left behind that the user may want to hear about.
type Tree struct {
	Root  string // absolute; the files' names are relative to it
	Sub   string // folder below Root that holds flake.nix or configuration.nix, "." for Root itself
	Files []File // sorted by name

	Untracked  []string // not tracked by git, and so not uploaded; git's ignored files are not counted
	Submodules []string // of git; their files are not uploaded, as nix leaves them out too
	Escaping   []string // symlinks that are uploaded but lead out of Root, and so to nowhere on the machine

	size int64
}

// A File is a regular file or a symlink. Folders exist by the files in them.
type File struct {
	Name string      // slash-separated, below the root of its tree
	Mode fs.FileMode // permission bits, with fs.ModeSymlink for a symlink
	Size int64       // in bytes; 0 for a symlink
	Link string      // what a symlink holds
}

// Bounds of what is uploaded. A configuration is text: whoever comes near these has
// named the wrong folder.
const (
	maxFiles = 50_000
	maxBytes = 256 << 20
)

// Size returns the bytes of all files.
func (t *Tree) Size() int64 { return t.size }

// FlakeRef returns the reference of the flake once the tree is in the folder dir of a
// machine. There is no git there to tell nix where the whole begins, so that a flake
// in a folder of its own is named by its place in the whole. Nix 2.26 understands this
// form of "path:", 2.8 did not (both tried).
func (t *Tree) FlakeRef(dir string) string {
	if t.Sub == "." {
		return dir
	}
	return "path:" + escapePath(dir) + "?dir=" + escapePath(t.Sub)
}

// Open opens a regular file of the tree. It does not follow symlinks out of the
// tree, should one have taken the file's place.
func (t *Tree) Open(f File) (*os.File, error) {
	return os.OpenInRoot(t.Root, filepath.FromSlash(f.Name))
}

// ReadFlake lists the files of the local flake ref: in a git work tree all that git
// tracks in it, staged or not, with the contents that they have now, which is what
// nix itself takes of a flake; elsewhere, or written as "path:", the whole folder.
//
// A flake may lie in a folder of a work tree and use files outside of that folder.
// Therefore the root of the tree is that of the work tree.
func ReadFlake(ctx context.Context, ref FlakeRef) (*Tree, error) {
	dir, err := folder(ref.Path, "flake.nix")
	if err != nil {
		return nil, fmt.Errorf("flake %q: %w", ref.Path, err)
	}
	root := workTree(dir)
	if root == "" || ref.Plain {
		return readFolder(dir)
	}
	t, err := readTracked(ctx, root, root)
	if err != nil {
		return nil, fmt.Errorf("flake %q: %w", ref.Path, err)
	}
	if t.Sub, err = filepath.Rel(root, dir); err != nil {
		return nil, fmt.Errorf("flake %q: %w", ref.Path, err)
	}
	t.Sub = filepath.ToSlash(t.Sub)
	if !t.has(filepath.ToSlash(filepath.Join(t.Sub, "flake.nix"))) {
		return nil, fmt.Errorf("flake %q: git does not track its flake.nix, so nix would not see it: run git add, or write path:%s for the folder as it is", ref.Path, ref.Path)
	}
	return t, nil
}

// ReadConfig lists the files of a folder with a configuration.nix: what git tracks
// in it if that is among it, the whole folder otherwise. Plain configurations do
// without git, so an untracked one is as good as any.
func ReadConfig(ctx context.Context, path string) (*Tree, error) {
	dir, err := folder(path, "configuration.nix")
	if err != nil {
		return nil, fmt.Errorf("configuration %q: %w", path, err)
	}
	if root := workTree(dir); root != "" {
		t, err := readTracked(ctx, root, dir)
		if err != nil {
			return nil, fmt.Errorf("configuration %q: %w", path, err)
		}
		if t.has("configuration.nix") {
			return t, nil
		}
	}
	return readFolder(dir)
}

// folder returns the absolute path, free of symlinks, of the folder path, which
// must hold the named file.
func folder(path, file string) (string, error) {
	dir, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(dir, file)); errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("no %s in it: name the folder that holds it", file)
	} else if err != nil {
		return "", err
	}
	return dir, nil
}

func (t *Tree) has(name string) bool {
	_, found := slices.BinarySearchFunc(t.Files, name, func(f File, n string) int { return strings.Compare(f.Name, n) })
	return found
}

// readFolder lists everything below dir but what no configuration needs: git's own
// files and the result links that nix build leaves.
func readFolder(dir string) (*Tree, error) {
	t := &Tree{Root: dir, Sub: "."}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.Name() == ".git" && d.IsDir():
			return fs.SkipDir
		case d.IsDir(), d.Name() == ".git", isResult(path, d):
			return nil
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		return t.add(filepath.ToSlash(name))
	})
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", dir, err)
	}
	t.sort()
	return t, nil
}

func isResult(path string, d fs.DirEntry) bool {
	if d.Name() != "result" && !strings.HasPrefix(d.Name(), "result-") || d.Type() != fs.ModeSymlink {
		return false
	}
	to, err := os.Readlink(path)
	return err == nil && strings.HasPrefix(to, "/nix/store/")
}

// add looks at the named file and adds it, within the bounds.
func (t *Tree) add(name string) error {
	path := filepath.Join(t.Root, filepath.FromSlash(name))
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	// Others never need to write it, and set-id bits have no place here. A file
	// that only its owner may read stays so.
	f := File{Name: name, Mode: info.Mode().Perm() & 0o755}
	switch info.Mode().Type() {
	case 0:
		f.Size = info.Size()
	case fs.ModeSymlink:
		f.Mode = fs.ModeSymlink | 0o777
		if f.Link, err = os.Readlink(path); err != nil {
			return err
		}
		if target := filepath.Join(filepath.Dir(filepath.FromSlash(name)), f.Link); filepath.IsAbs(f.Link) || !filepath.IsLocal(target) {
			t.Escaping = append(t.Escaping, name)
		}
	default:
		return fmt.Errorf("%q is neither a file nor a symlink (%s): move it out of the configuration", path, info.Mode())
	}
	t.Files = append(t.Files, f)
	t.size += f.Size
	if len(t.Files) > maxFiles || t.size > maxBytes {
		return fmt.Errorf("more than %d files or %d MiB: name a folder that holds only the configuration", maxFiles, maxBytes>>20)
	}
	return nil
}

func (t *Tree) sort() {
	slices.SortFunc(t.Files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	for _, names := range [][]string{t.Untracked, t.Submodules, t.Escaping} {
		slices.Sort(names)
	}
}
