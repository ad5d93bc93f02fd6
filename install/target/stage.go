package target

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/nixctl/nixctl/install/command"
	"golang.org/x/crypto/ssh"
)

// A staged file lies at temp until it is renamed to Path.
type staged struct {
	File
	temp string
}

// packets is how many SFTP writes of 32 KiB the file takes, 64 at most at once.
func (f staged) packets() int64 { return min(max(f.Size>>15, 1), 64) }

// A plan is a checked list of files, ready for any number of attempts.
type plan struct {
	files  []staged // regular files and links
	dirs   []File   // listed directories, parents first
	stages []string // one in each directory that gets a file
	total  int64    // bytes
}

// CheckFiles returns why [Target.Upload] would refuse files before it touches the
// machine, nil if it would not: a path that is not absolute and clean or is there
// twice, something below what is no directory, a device, a file without content.
func CheckFiles(files []File) error {
	listed := map[string]fs.FileMode{}
	for _, f := range files {
		if err := f.check(); err != nil {
			return fmt.Errorf("%q: %w", f.Path, err)
		}
		if _, twice := listed[f.Path]; twice {
			return fmt.Errorf("%q is listed twice", f.Path)
		}
		listed[f.Path] = f.Mode.Type()
	}
	for _, f := range files {
		for d := path.Dir(f.Path); d != "/"; d = path.Dir(d) {
			if typ, ok := listed[d]; ok && typ != fs.ModeDir {
				return fmt.Errorf("%q lies in %q, which is listed as no directory", f.Path, d)
			}
		}
	}
	return nil
}

func newPlan(files []File) (*plan, error) {
	if err := CheckFiles(files); err != nil {
		return nil, err
	}
	p, stages := &plan{}, map[string]bool{}
	for i, f := range files {
		if f.Mode.IsDir() {
			p.dirs = append(p.dirs, f)
			continue
		}
		in := path.Join(path.Dir(f.Path), stage)
		stages[in] = true
		p.files = append(p.files, staged{f, path.Join(in, strconv.Itoa(i))})
		if f.Mode.IsRegular() {
			p.total += f.Size
		}
	}
	p.stages = slices.Sorted(maps.Keys(stages))
	slices.SortFunc(p.dirs, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return p, nil
}

func (f File) check() error {
	switch {
	case !path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path || f.Path == "/":
		return errors.New("want a clean absolute path")
	case strings.ContainsRune(f.Path+f.Link, 0):
		return errors.New("has a NUL byte")
	case slices.Contains(strings.Split(f.Path, "/"), stage):
		return fmt.Errorf("%q is a name kept for uploads", stage)
	case f.Mode.IsRegular() && (f.Open == nil || f.Size < 0):
		return errors.New("has no content")
	case f.Mode.Type() == fs.ModeSymlink && f.Link == "":
		return errors.New("the link points nowhere")
	case !f.Mode.IsRegular() && !f.Mode.IsDir() && f.Mode.Type() != fs.ModeSymlink:
		return fmt.Errorf("%s is neither a file, a directory nor a link", f.Mode.Type())
	}
	return nil
}

// octal is the mode for chmod(1).
func (f File) octal() string {
	m := uint32(f.Mode.Perm())
	for bit, to := range map[fs.FileMode]uint32{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if f.Mode&bit != 0 {
			m |= to
		}
	}
	return fmt.Sprintf("%05o", m)
}

// prepare makes directories and empty stages, and returns one directory for each
// file system, by the ID that statfs(2) gives it.
func (u *upload) prepare(ctx context.Context) (systems []string, err error) {
	var script strings.Builder
	line := func(argv ...string) { fmt.Fprintln(&script, command.New(argv...)) }
	parents := func(dir string) {
		mask := "022"
		if strings.HasPrefix(dir+"/", u.conn.set.run+"/") {
			mask = "077" // what jobs keep there is for root only
		}
		fmt.Fprintf(&script, "umask %s\n[ -d %s ] || ", mask, command.Quote(dir))
		line("mkdir", "-p", "--", dir)
	}
	fmt.Fprintln(&script, "set -e")
	for _, d := range u.dirs {
		temp := path.Join(path.Dir(d.Path), stage)
		fmt.Fprintf(&script, "if [ ! -d %s ]; then\n", command.New(d.Path))
		parents(path.Dir(d.Path))
		line("rm", "-rf", "--", temp)
		line("mkdir", "-m", "0700", "--", temp)
		line("chown", fmt.Sprintf("%d:%d", d.UID, d.GID), "--", temp)
		line("chmod", d.octal(), "--", temp)
		line("mv", "-T", "--", temp, d.Path)
		fmt.Fprintln(&script, "fi")
	}
	for _, s := range u.stages {
		parents(path.Dir(s))
	}
	fmt.Fprintln(&script, "umask 077")
	for chunk := range slices.Chunk(u.stages, 200) {
		line(append([]string{"rm", "-rf", "--"}, chunk...)...)
		line(append([]string{"mkdir", "--"}, chunk...)...)
	}
	places := u.places()
	for chunk := range slices.Chunk(places, 200) {
		line(append([]string{"stat", "-f", "-c", "%i", "--"}, chunk...)...)
	}
	out := &bounded{limit: 64 * len(places)}
	if err := u.sh(ctx, "prepare", "sh -s", script.String(), out); err != nil {
		return nil, err
	}
	return distinct(places, strings.Fields(out.String())), nil
}

// places are the directories that the upload changes.
func (p *plan) places() []string {
	var dirs []string
	for _, d := range p.dirs {
		dirs = append(dirs, d.Path)
	}
	for _, s := range p.stages {
		dirs = append(dirs, path.Dir(s))
	}
	return dirs
}

// distinct keeps one directory for each file system ID. Some file systems have the
// ID 0, so those are all kept.
func distinct(dirs, ids []string) []string {
	var keep []string
	known := map[string]bool{}
	for i, d := range dirs {
		if i < len(ids) && ids[i] != "0" {
			if known[ids[i]] {
				continue
			}
			known[ids[i]] = true
		}
		keep = append(keep, d)
	}
	return keep
}

// verify has the machine hash what it received and sync the file systems. Names go
// both ways with a NUL at their end, so that all of them come through.
func (u *upload) verify(ctx context.Context, systems []string) error {
	var names, want strings.Builder
	for _, temp := range slices.Sorted(maps.Keys(u.hashes)) {
		names.WriteString(temp + "\x00")
		want.WriteString(u.hashes[temp] + "  " + temp + "\x00")
	}
	got := &bounded{limit: want.Len()}
	if err := u.sh(ctx, "verify", "xargs -0r sha256sum -z --", names.String(), got); err != nil {
		return err
	}
	if got.String() != want.String() {
		return fmt.Errorf("verify: %q is not on the machine as it was sent; its memory or disk is broken", u.differing(got.String()))
	}
	return u.sync(ctx, systems)
}

// differing names the first file that the machine hashed otherwise.
func (u *upload) differing(got string) string {
	lines := strings.Split(got, "\x00")
	for _, f := range u.files {
		if f.Mode.IsRegular() && !slices.Contains(lines, u.hashes[f.temp]+"  "+f.temp) {
			return f.Path
		}
	}
	return "?"
}

// sync writes the file systems to disk: without it a power cut seconds later left
// empty files (measured).
func (u *upload) sync(ctx context.Context, systems []string) error {
	return u.sh(ctx, "sync", "xargs -0r sync -f --", strings.Join(append(systems, ""), "\x00"), io.Discard)
}

// clear removes the stages and syncs the renames.
func (u *upload) clear(ctx context.Context, systems []string) error {
	stages := strings.Join(append(slices.Clone(u.stages), ""), "\x00")
	return errors.Join(u.sh(ctx, "clear", "xargs -0r rm -rf --", stages, io.Discard), u.sync(ctx, systems))
}

// sh runs a line of shell on the machine.
func (u *upload) sh(ctx context.Context, name, line, stdin string, out io.Writer) error {
	var stderr tail
	err := u.conn.exec(ctx, line, strings.NewReader(stdin), out, &stderr)
	var exit *ssh.ExitError
	if errors.As(err, &exit) {
		return &ExitError{Name: name, Status: exit.ExitStatus(), Killed: exit.Signal(), Output: stderr.bytes()}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
