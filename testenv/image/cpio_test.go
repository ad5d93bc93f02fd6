package image

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// cpio runs GNU cpio, the peer that our archives are checked with.
func cpio(t *testing.T, archive []byte, dir string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("cpio"); err != nil {
		t.Skip("needs cpio")
	}
	cmd := exec.Command("cpio", append([]string{"--quiet"}, args...)...)
	cmd.Stdin, cmd.Dir = bytes.NewReader(archive), dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("cpio %v: %v %s", args, err, &stderr)
	}
	return string(out)
}

func TestWriteCPIO(t *testing.T) {
	files := []File{
		{"etc/ssh/ssh_host_ed25519_key", 0o600, []byte("key\n")},
		{"/etc/ssh/ssh_host_ed25519_key.pub", 0o644, []byte("public")},
		{"root/.ssh", fs.ModeDir | 0o700, nil},
		{"root/.ssh/authorized_keys", 0o600, nil},
		{"sbin/modprobe", fs.ModeSymlink | 0o777, []byte("/bin/busybox")},
	}
	var b bytes.Buffer
	if err := WriteCPIO(&b, files); err != nil {
		t.Fatal(err)
	}
	if b.Len()%4 != 0 {
		t.Errorf("%d bytes: an archive appended to it would not be aligned", b.Len())
	}
	got := strings.Fields(cpio(t, b.Bytes(), "", "-t"))
	want := []string{"etc", "etc/ssh", "etc/ssh/ssh_host_ed25519_key", "etc/ssh/ssh_host_ed25519_key.pub",
		"root", "root/.ssh", "root/.ssh/authorized_keys", "sbin", "sbin/modprobe"}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("got  %q\nwant %q", got, want)
	}

	dir := t.TempDir()
	cpio(t, b.Bytes(), dir, "-i", "--no-absolute-filenames", "--no-preserve-owner")
	for _, f := range files {
		st, err := os.Lstat(filepath.Join(dir, f.Path))
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode() != f.Mode {
			t.Errorf("%s: mode %v, want %v", f.Path, st.Mode(), f.Mode)
		}
		if f.Mode.IsRegular() {
			if data, err := os.ReadFile(filepath.Join(dir, f.Path)); err != nil || !bytes.Equal(data, f.Data) {
				t.Errorf("%s: %q, %v", f.Path, data, err)
			}
		}
	}
	if to, err := os.Readlink(filepath.Join(dir, "sbin/modprobe")); err != nil || to != "/bin/busybox" {
		t.Errorf("link to %q, %v", to, err)
	}
}

func TestWriteCPIOErrors(t *testing.T) {
	if err := WriteCPIO(new(bytes.Buffer), []File{{"dev/console", fs.ModeDevice | 0o600, nil}}); err == nil || !strings.Contains(err.Error(), `"dev/console"`) {
		t.Errorf("a device: %v", err)
	}
	if err := WriteCPIO(full{}, []File{{"a", 0o644, nil}}); !errors.Is(err, errFull) {
		t.Errorf("a full disk: %v", err)
	}
}

var errFull = errors.New("no space")

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }
