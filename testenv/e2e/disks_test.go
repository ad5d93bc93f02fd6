package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nixctl/nixctl/testenv/lab"
)

// TestDisksInGuest runs the tests of package disk on a machine that has what they
// need: device mapper, RAID and a kernel that reads GPT.
func TestDisksInGuest(t *testing.T) {
	t.Parallel()
	b := newLab(t)
	g := b.boot(lab.Spec{Name: "disks", HostKey: b.hostKey("disks"), Memory: 2048})
	known, err := g.KnownHosts()
	if err != nil {
		t.Fatal(err)
	}
	const source = "../../install/disk"
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", filepath.Join(dir, "disk.test"), source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.CopyFS(filepath.Join(dir, "testdata"), os.DirFS(source+"/testdata")); err != nil {
		t.Fatal(err)
	}
	archive, err := exec.CommandContext(t.Context(), "tar", "-C", dir, "-cf", "-", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	send := g.SSH(t.Context(), known, "mkdir -p /tmp/disk && tar -C /tmp/disk -xf -")
	send.Stdin = bytes.NewReader(archive)
	if out, err := send.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := g.SSH(t.Context(), known, "modprobe -a loop dm_mod dm_crypt raid1 vfat btrfs xfs; cd /tmp/disk && ./disk.test -test.v -test.timeout 15m").CombinedOutput()
	text := string(out)
	if err != nil || strings.Contains(text, "--- SKIP") {
		t.Errorf("%v; none may fail or skip:\n%s", err, text)
	}
	for l := range strings.Lines(text) {
		if strings.Contains(l, "--- ") {
			t.Log(strings.TrimSpace(l))
		}
	}
}
