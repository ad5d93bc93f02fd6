package image

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// A File is one entry of an initramfs archive. Path is relative to the
// archive's root. Mode says whether it is a regular file, a directory, or a
// symbolic link whose target is Data, and its permissions.
type File struct {
	Path string
	Mode fs.FileMode
	Data []byte
}

// WriteCPIO writes files as a cpio archive in the "newc" format that the Linux
// kernel unpacks as an initramfs (Documentation/driver-api/early-userspace/
// buffer-format.rst), so that it can be appended to another one. Everything
// belongs to root and dates from 1970. Folders that are not listed are added
// with permissions 0755. Special files are refused.
func WriteCPIO(w io.Writer, files []File) error {
	seen := map[string]bool{".": true}
	var err error
	add := func(f File) {
		if err == nil && !(seen[f.Path] && f.Mode.IsDir()) {
			seen[f.Path] = true
			err = writeEntry(w, len(seen), f)
		}
	}
	for _, f := range files {
		f.Path = path.Clean(strings.TrimPrefix(f.Path, "/"))
		for _, dir := range parents(f.Path) {
			add(File{Path: dir, Mode: fs.ModeDir | 0o755})
		}
		add(f)
	}
	add(File{Path: "TRAILER!!!"})
	return err
}

// parents lists the folders above name, the outermost first.
func parents(name string) []string {
	var dirs []string
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		dirs = append(dirs, dir)
	}
	slices.Reverse(dirs)
	return dirs
}

func writeEntry(w io.Writer, ino int, f File) error {
	mode := uint32(f.Mode.Perm())
	switch f.Mode.Type() {
	case 0:
		mode |= 0o100000
	case fs.ModeDir:
		mode |= 0o040000
	case fs.ModeSymlink:
		mode |= 0o120000
	default:
		return fmt.Errorf("archive entry %q: mode %v is neither file, folder nor symbolic link", f.Path, f.Mode)
	}
	var b bytes.Buffer
	// magic, then: inode, mode, uid, gid, links, mtime, size, dev major and
	// minor, rdev major and minor, size of the name with its zero, checksum
	fmt.Fprintf(&b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		ino, mode, 0, 0, 1, 0, len(f.Data), 0, 0, 0, 0, len(f.Path)+1, 0, f.Path)
	pad(&b)
	b.Write(f.Data)
	pad(&b)
	_, err := w.Write(b.Bytes())
	return err
}

// pad fills up to the next multiple of four bytes.
func pad(b *bytes.Buffer) {
	for b.Len()%4 != 0 {
		b.WriteByte(0)
	}
}
