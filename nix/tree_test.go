package nix

import (
	"context"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
)

// write makes files of the given modes below dir; each holds its own name.
func write(t *testing.T, dir string, files map[string]fs.FileMode) {
	t.Helper()
	for name, mode := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil { // whatever the umask
			t.Fatal(err)
		}
	}
}

func symlink(t *testing.T, to, path string) {
	t.Helper()
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}

// run runs git in dir as some user, without the settings of whoever runs the test.
func run(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=t", "-c", "user.email=t@example.org",
		"-c", "protocol.file.allow=always", "-c", "init.defaultBranch=main"}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git %q: %v\n%s", args, err, out)
	}
}

// tempDir is a temporary folder under the name that has no symlinks in it.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestReadFolder(t *testing.T) {
	dir := tempDir(t)
	write(t, dir, map[string]fs.FileMode{
		"flake.nix": 0o644, "bin/run": 0o775, "secret": 0o600, "shared": 0o666, "sub/.git": 0o644, ".git/config": 0o644,
		"result-notes": 0o644,
	})
	symlink(t, "/nix/store/x", filepath.Join(dir, "result"))
	symlink(t, "../secret", filepath.Join(dir, "bin/in"))
	symlink(t, "../../secret", filepath.Join(dir, "bin/out"))
	symlink(t, "/etc/passwd", filepath.Join(dir, "absolute"))
	t.Chdir(dir)
	got, err := ReadFlake(t.Context(), FlakeRef{Path: ".", Plain: true})
	if err != nil {
		t.Fatal(err)
	}
	const link = fs.ModeSymlink | 0o777
	want := &Tree{Root: dir, Sub: ".", size: 9 + 7 + 6 + 6 + 12, Escaping: []string{"absolute", "bin/out"}, Files: []File{
		{Name: "absolute", Mode: link, Link: "/etc/passwd"},
		{Name: "bin/in", Mode: link, Link: "../secret"},
		{Name: "bin/out", Mode: link, Link: "../../secret"},
		{Name: "bin/run", Mode: 0o755, Size: 7},
		{Name: "flake.nix", Mode: 0o644, Size: 9},
		{Name: "result-notes", Mode: 0o644, Size: 12},
		{Name: "secret", Mode: 0o600, Size: 6},
		{Name: "shared", Mode: 0o644, Size: 6},
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// TestReadFlakeTracked: what nix would take of a dirty work tree is what is sent.
func TestReadFlakeTracked(t *testing.T) {
	needs(t, "git")
	dir, other := tempDir(t), tempDir(t)
	write(t, other, map[string]fs.FileMode{"x": 0o644})
	run(t, other, "init", "-q")
	run(t, other, "add", ".")
	run(t, other, "commit", "-qm", "x")

	run(t, dir, "init", "-q")
	write(t, dir, map[string]fs.FileMode{
		"nixos/flake.nix": 0o644, "modules/ssh.nix": 0o644, "deleted": 0o644, "folder/file": 0o644, "tool": 0o755,
		".gitignore": 0o644, "name with\nnewline": 0o644, "ignored.qcow2": 0o644, "both": 0o644,
	})
	if err := os.WriteFile(filepath.Join(dir, ".gitignore"), []byte("*.qcow2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	symlink(t, "modules/ssh.nix", filepath.Join(dir, "link"))
	run(t, dir, "add", ".")
	run(t, dir, "submodule", "--quiet", "add", other, "vendored")
	run(t, dir, "commit", "-qm", "first")

	write(t, dir, map[string]fs.FileMode{"staged": 0o644, "intended": 0o644, "new.nix": 0o644, "nixos/also-new": 0o644})
	run(t, dir, "add", "staged")
	run(t, dir, "add", "--intent-to-add", "intended")
	if err := os.WriteFile(filepath.Join(dir, "tool"), []byte("changed now"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"deleted", "folder"} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	write(t, dir, map[string]fs.FileMode{"folder": 0o644}) // a file where the index has a folder

	t.Setenv("GIT_DIR", other) // as in a git hook
	got, err := ReadFlake(t.Context(), FlakeRef{Path: filepath.Join(dir, "nixos")})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range got.Files {
		names = append(names, f.Name)
	}
	check := func(what string, got any, want ...string) {
		t.Helper()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %q, want %q", what, got, want)
		}
	}
	check("files", names, ".gitignore", ".gitmodules", "both", "intended", "link", "modules/ssh.nix",
		"name with\nnewline", "nixos/flake.nix", "staged", "tool")
	check("untracked", got.Untracked, "folder", "new.nix", "nixos/also-new")
	check("submodules", got.Submodules, "vendored")
	check("root and sub", []string{got.Root, got.Sub}, dir, "nixos")

	f, err := got.Open(got.Files[len(got.Files)-1])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if b, err := io.ReadAll(f); string(b) != "changed now" {
		t.Errorf("tool holds %q, %v", b, err)
	}
}

func TestReadConfig(t *testing.T) {
	needs(t, "git")
	dir := tempDir(t)
	run(t, dir, "init", "-q")
	write(t, dir, map[string]fs.FileMode{"web1/configuration.nix": 0o644, "web1/disks.nix": 0o644, "other/x": 0o644})
	config := filepath.Join(dir, "web1")
	count := func(files, untracked int) {
		t.Helper()
		got, err := ReadConfig(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		if got.Root != config || len(got.Files) != files || len(got.Untracked) != untracked {
			t.Errorf("got %+v, want %d files and %d untracked", got, files, untracked)
		}
	}
	count(2, 0) // none is tracked: the folder as it is
	run(t, dir, "add", "web1/configuration.nix")
	count(1, 1)
}

func TestReadRefuses(t *testing.T) {
	needs(t, "git")
	dir := tempDir(t)
	write(t, dir, map[string]fs.FileMode{"git/flake.nix": 0o644, "git/configuration.nix": 0o644, "pipe/flake.nix": 0o644, "big/flake.nix": 0o644, "none/x": 0o644})
	run(t, filepath.Join(dir, "git"), "init", "-q")
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe/fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "big/flake.nix"), maxBytes+1); err != nil {
		t.Fatal(err)
	}
	for name, why := range map[string]string{
		"git":   "git does not track its flake.nix",
		"pipe":  "neither a file nor a symlink",
		"big":   "256 MiB",
		"none":  "no flake.nix in it",
		"empty": "no such file",
	} {
		path := filepath.Join(dir, name)
		if got, err := ReadFlake(t.Context(), FlakeRef{Path: path}); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("ReadFlake(%q) = %+v, %v, want an error with %q", name, got, err, why)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ReadConfig(ctx, filepath.Join(dir, "git")); err == nil || !strings.Contains(err.Error(), "context canceled") {
		t.Errorf("cancelled: %v", err)
	}
}

// TestOpenStaysInside: a link that takes a file's place between listing and sending
// does not bring the workstation's other files onto the machine.
func TestOpenStaysInside(t *testing.T) {
	dir := tempDir(t)
	write(t, dir, map[string]fs.FileMode{"flake.nix": 0o644})
	tree, err := ReadFlake(t.Context(), FlakeRef{Path: dir, Plain: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "flake.nix")); err != nil {
		t.Fatal(err)
	}
	symlink(t, "/etc/passwd", filepath.Join(dir, "flake.nix"))
	if f, err := tree.Open(tree.Files[0]); err == nil {
		f.Close()
		t.Error("Open followed a link out of the tree")
	}
}
