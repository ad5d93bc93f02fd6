package target

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/pkg/sftp"
)

func file(path, content string, mode fs.FileMode) File {
	return File{Path: path, Mode: mode, Size: int64(len(content)), Open: func() (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(content)), nil
	}}
}

// stages lists what an upload left behind below dir.
func stages(t *testing.T, dir string) (left []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if d != nil && d.Name() == stage {
			left = append(left, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return left
}

func TestUpload(t *testing.T) {
	m := newMachine(t, "/bin/sh")
	tg := m.target(t, m.addr)
	root := t.TempDir()
	if err := os.Mkdir(root+"/etc", 0o750); err != nil {
		t.Fatal(err)
	}
	write(t, root+"/etc/old", []byte("old content"), 0o644)
	if err := os.Mkdir(root+"/etc/"+stage, 0o700); err != nil { // as a broken upload leaves it
		t.Fatal(err)
	}
	write(t, root+"/etc/"+stage+"/0", []byte("half"), 0o600)
	big := strings.Repeat("0123456789abcdef", 1<<16)
	owned := file(root+"/home/ann/.ssh/key", "secret", 0o600)
	owned.UID, owned.GID = 1234, 567
	files := []File{
		file(root+"/etc/old", "new", 0o644),
		file(root+"/etc/nixos/flake.nix", "{ }", 0o444),
		file(root+"/empty", "", 0o640),
		file(root+"/big", big, 0o600),
		file(root+"/bin/su", "#!", 0o755|fs.ModeSetuid),
		{Path: root + "/etc/nixos/link", Mode: fs.ModeSymlink | 0o777, Link: "../old"},
		{Path: root + "/home/ann", Mode: fs.ModeDir | 0o700, UID: 1234, GID: 567},
		{Path: root + "/home/ann/.ssh", Mode: fs.ModeDir | 0o711, UID: 1234},
		{Path: root + "/tmp", Mode: fs.ModeDir | 0o777 | fs.ModeSticky},
		{Path: root + "/etc", Mode: fs.ModeDir | 0o700}, // exists
		owned,
	}
	for _, name := range []string{"-rf", "a b", "new\nline", `back\slash`, "quo'te\"$HOME`", "caf\xe9", "*", "\x1b[1m"} {
		files = append(files, file(root+"/odd/"+name, name, 0o644), file(root+"/odd/dir "+name+"/x", name, 0o644))
	}
	var done, total int64
	if err := tg.Upload(t.Context(), files, func(d, n int64) { done, total = d, n }); err != nil {
		t.Fatal(err)
	}
	if want := int64(len(big)); done != total || total < want {
		t.Errorf("progress ended at %d of %d, want all of more than %d", done, total, want)
	}
	for _, f := range files {
		checkFile(t, f, root+"/etc")
	}
	for dir, mode := range map[string]fs.FileMode{"/etc": 0o750, "/etc/nixos": 0o755, "/odd": 0o755, "/home": 0o755} {
		if info, err := os.Stat(root + dir); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%q: %v, %v, want mode %o", dir, info, err, mode)
		}
	}
	if left := stages(t, root); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// checkFile compares f with what lies at its path.
func checkFile(t *testing.T, f File, existed string) {
	t.Helper()
	info, err := os.Lstat(f.Path)
	if err != nil {
		t.Error(err)
		return
	}
	switch {
	case f.Path == existed:
		return
	case f.Mode.Type() == fs.ModeSymlink:
		if to, _ := os.Readlink(f.Path); to != f.Link {
			t.Errorf("%q points to %q, want %q", f.Path, to, f.Link)
		}
		return
	case f.Mode.IsRegular():
		r, _ := f.Open()
		want, _ := io.ReadAll(r)
		if got, err := os.ReadFile(f.Path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%q has %d bytes (%v), not the %d sent", f.Path, len(got), err, len(want))
		}
	}
	if info.Mode() != f.Mode {
		t.Errorf("%q has mode %v, want %v", f.Path, info.Mode(), f.Mode)
	}
	if st := info.Sys().(*syscall.Stat_t); int(st.Uid) != f.UID || int(st.Gid) != f.GID {
		t.Errorf("%q belongs to %d:%d, want %d:%d", f.Path, st.Uid, st.Gid, f.UID, f.GID)
	}
}

// TestUploadLostLink: no final path has a half file at any time, and the upload
// gets through in the end.
func TestUploadLostLink(t *testing.T) {
	m := newMachine(t, "/bin/sh")
	l := newLink(t, m.addr, func(l *link) { l.up, l.times = 3<<20, 2 })
	root := t.TempDir()
	var files []File
	for i := range 20 {
		files = append(files, file(fmt.Sprintf("%s/%d", root, i), strings.Repeat("x", 256<<10), 0o644))
	}
	err := m.target(t, l.addr()).Upload(t.Context(), files, func(done, total int64) {
		if there, _ := filepath.Glob(root + "/[0-9]*"); len(there) > 0 {
			t.Errorf("%d files at their final paths after %d of %d bytes", len(there), done, total)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if l.cuts != 2 {
		t.Errorf("%d cuts, want 2", l.cuts)
	}
	for _, f := range files {
		checkFile(t, f, "")
	}
	if left := stages(t, root); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestUploadVerifies: bytes that change on the machine are noticed.
func TestUploadVerifies(t *testing.T) {
	m := newMachine(t, "/bin/sh")
	root := t.TempDir()
	p, err := newPlan([]File{file(root+"/a", "good", 0o644), file(root+"/b", "good", 0o644)})
	if err != nil {
		t.Fatal(err)
	}
	err = m.target(t, m.addr).once(t.Context(), func(c *conn) error {
		return c.sftp(t.Context(), func(s *sftp.Client) error {
			u := &upload{plan: p, conn: c, sftp: s, hashes: map[string]string{}}
			systems, err := u.prepare(t.Context())
			if err != nil {
				return err
			}
			if err := u.send(t.Context()); err != nil {
				return err
			}
			write(t, p.files[1].temp, []byte("evil"), 0o644)
			return u.verify(t.Context(), systems)
		})
	})
	if err == nil || !strings.Contains(err.Error(), root+"/b") {
		t.Errorf("error %v, want one that names %q", err, root+"/b")
	}
}

func TestUploadFullDisk(t *testing.T) {
	m := newMachine(t, "/bin/sh")
	root := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=1m", "target-test", root).CombinedOutput(); err != nil {
		t.Skipf("needs to mount a tmpfs: %s", out)
	}
	t.Cleanup(func() { exec.Command("umount", root).Run() })
	err := m.target(t, m.addr).Upload(t.Context(), []File{file(root+"/big", strings.Repeat("x", 4<<20), 0o644)}, nil)
	if err == nil || !strings.Contains(err.Error(), "no space left") || !strings.Contains(err.Error(), root+"/big") {
		t.Errorf("error %v, want one about space for %q", err, root+"/big")
	}
	if there, _ := os.ReadDir(root); len(there) > 0 {
		t.Errorf("left behind: %v", there)
	}
}

func TestUploadRefusals(t *testing.T) {
	ok := file("/a/b", "x", 0o644)
	for name, files := range map[string][]File{
		"relative":       {file("a", "", 0)},
		"unclean":        {file("/a/../b", "", 0)},
		"root":           {{Path: "/", Mode: fs.ModeDir}},
		"NUL":            {file("/a\x00b", "", 0)},
		"twice":          {ok, ok},
		"no content":     {{Path: "/a"}},
		"empty link":     {{Path: "/a", Mode: fs.ModeSymlink}},
		"device":         {{Path: "/a", Mode: fs.ModeDevice}},
		"kept name":      {file("/a/"+stage+"/b", "", 0)},
		"below a file":   {ok, file("/a/b/c/d", "", 0)},
		"below a link":   {{Path: "/a", Mode: fs.ModeSymlink, Link: "b"}, ok},
		"negative bytes": {{Path: "/a", Size: -1, Open: ok.Open}},
	} {
		if CheckFiles(files) == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := CheckFiles([]File{ok, file("/a/c", "", 0), {Path: "/a", Mode: fs.ModeDir | 0o755}}); err != nil {
		t.Error(err)
	}
}

func TestUploadChangedFile(t *testing.T) {
	m := newMachine(t, "/bin/sh")
	f := file(t.TempDir()+"/a", "12345", 0o644)
	f.Size = 9
	if err := m.target(t, m.addr).Upload(t.Context(), []File{f}, nil); err == nil || !strings.Contains(err.Error(), "being changed") {
		t.Errorf("error %v, want one about a change", err)
	}
	if _, err := os.Stat(f.Path); err == nil {
		t.Error("a file of the wrong size was put in place")
	}
}

// TestUploadSideBySide: as many files as there may be requests are open at once, and
// no more. None is read before that many are.
func TestUploadSideBySide(t *testing.T) {
	m := newMachine(t, "/bin/sh")
	m.set.streams = 16
	var mu sync.Mutex
	var open, most int64
	count := func(n int64) {
		mu.Lock()
		defer mu.Unlock()
		open += n
		most = max(most, open)
	}
	enough := make(chan struct{}) // closed by the last one of the first
	var first atomic.Int64
	root := t.TempDir()
	var files []File
	for i := range 200 {
		f := file(fmt.Sprintf("%s/%d/%d", root, i%20, i), "content", 0o644)
		content := f.Open
		f.Open = func() (io.ReadCloser, error) {
			count(1)
			if first.Add(1) == m.set.streams {
				close(enough)
			}
			select {
			case <-enough:
			case <-t.Context().Done():
			}
			r, err := content()
			return closer{r, func() { count(-1) }}, err
		}
		files = append(files, f)
	}
	if err := m.target(t, m.addr).Upload(t.Context(), files, nil); err != nil {
		t.Fatal(err)
	}
	if most != m.set.streams {
		t.Errorf("%d files were open at once, want %d", most, m.set.streams)
	}
}

// A closer calls closed when it is closed.
type closer struct {
	io.Reader
	closed func()
}

func (c closer) Close() error {
	c.closed()
	return nil
}

// TestUploadPrivate: the directory of a run is for root only, also if a file comes
// before the first job.
func TestUploadPrivate(t *testing.T) {
	m := newMachine(t, "/bin/sh")
	m.set.run = m.dir + "/run/nixctl"
	files := []File{file(m.set.run+"/1/passphrase", "x", 0o600), file(m.dir+"/else/where", "x", 0o600),
		{Path: m.set.run + "/2/dir", Mode: fs.ModeDir | 0o755}}
	if err := m.target(t, m.addr).Upload(t.Context(), files, nil); err != nil {
		t.Fatal(err)
	}
	for dir, mode := range map[string]fs.FileMode{m.set.run: 0o700, m.set.run + "/1": 0o700, m.set.run + "/2": 0o700, m.dir + "/else": 0o755} {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%q: %v, %v, want mode %o", dir, info, err, mode)
		}
	}
}

func TestUploadCancelled(t *testing.T) {
	m := newMachine(t, "/bin/sh")
	ctx, cancel := context.WithCancel(t.Context())
	root := t.TempDir()
	err := m.target(t, m.addr).Upload(ctx, []File{file(root+"/a", strings.Repeat("x", 8<<20), 0o644)}, func(int64, int64) { cancel() })
	if err == nil || ctx.Err() == nil {
		t.Fatalf("error %v after a cancelled upload", err)
	}
	if _, err := os.Stat(root + "/a"); err == nil {
		t.Error("the file is in place")
	}
}
