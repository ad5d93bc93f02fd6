package disk

import (
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// These tests work on loop devices of the machine they run on. Mounts are made in
// a mount namespace of their own and go with it.

func needs(t *testing.T, tools ...string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root for loop devices")
	}
	for _, tool := range append(tools, "losetup", "sfdisk", "wipefs", "unshare") {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s", tool)
		}
	}
}

// withoutGPT stands in for a kernel that does not read GPT, as those of some
// test machines: it tells the kernel of partitions after each program that would
// have made it look.
const withoutGPT = `#!/bin/sh
PATH=${PATH#*:}
%s "$@" || exit
for last; do :; done
case "$*" in --json* | --dump*) ;; *) partx --update "$last" 2>/dev/null || : ;; esac
`

// TestMain puts the stand-ins of withoutGPT into PATH if they are needed.
func TestMain(m *testing.M) {
	flag.Parse()
	dir, err := os.MkdirTemp("", "nixctl-disk")
	if err != nil {
		panic(err)
	}
	probe := `truncate -s 4M "$1/probe" && loop=$(losetup --find --show --partscan "$1/probe") &&
		printf 'label: gpt\nsize=1MiB\n' | sfdisk --quiet "$loop"; [ -b "${loop}p1" ]; code=$?; losetup -d "$loop"; exit $code`
	if exec.Command("sh", "-c", probe, "sh", dir).Run() != nil {
		for _, tool := range []string{"sfdisk", "blockdev"} {
			if err := os.WriteFile(filepath.Join(dir, tool), fmt.Appendf(nil, withoutGPT, tool), 0o755); err != nil {
				panic(err)
			}
		}
		os.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// needsKernel skips unless the kernel has a file system or device driver.
func needsKernel(t *testing.T, names ...string) {
	t.Helper()
	known := read(t, "/proc/filesystems") + read(t, "/proc/devices")
	for _, n := range names {
		if !strings.Contains(known, n+"\n") {
			t.Skipf("needs a kernel with %s", n)
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// run runs a shell script that must succeed and returns what it printed.
func run(t *testing.T, script string) string {
	t.Helper()
	out, code := try(t, script)
	if code != 0 {
		t.Fatalf("exit status %d\n%s", code, out)
	}
	return out
}

// bareMnt hides, in a mount namespace of its own, what this machine has below /mnt.
const bareMnt = "awk '$2 ~ \"^/mnt/\" {print $2}' /proc/self/mounts | xargs -r umount -l 2>/dev/null || :\n"

func try(t *testing.T, script string) (string, int) {
	t.Helper()
	out, err := exec.Command("unshare", "--mount", "sh", "-c", bareMnt+script).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if exit != nil {
		return string(out), exit.ExitCode()
	}
	return string(out), 0
}

// A loopDisk is a sparse file seen as a disk.
type loopDisk struct {
	file, path string
}

func newDisk(t *testing.T, size int64) *loopDisk {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "disk")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	d := &loopDisk{file: f.Name()}
	d.attach(t)
	t.Cleanup(func() {
		exec.Command("swapoff", d.path+"p2").Run() // if a test failed half way
		exec.Command("losetup", "-d", d.path).Run()
	})
	return d
}

func (d *loopDisk) attach(t *testing.T, flags ...string) {
	t.Helper()
	d.path = strings.TrimSpace(run(t, "losetup --find --show --partscan "+strings.Join(flags, " ")+" "+d.file))
}

func (d *loopDisk) pin(t *testing.T) Pin {
	t.Helper()
	at := "/sys/block/" + filepath.Base(d.path)
	return Pin{Path: d.path, Size: 512 * number(t, at+"/size"), Sequence: number(t, at+"/diskseq")}
}

func number(t *testing.T, path string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(strings.TrimSpace(read(t, path)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// sum hashes all bytes of the disk.
func (d *loopDisk) sum(t *testing.T) string {
	t.Helper()
	run(t, "sync; blockdev --flushbufs "+d.path)
	f, err := os.Open(d.file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// scripts runs scripts one after the other in one mount namespace, each by a
// shell of its own.
func scripts(t *testing.T, texts ...string) string {
	t.Helper()
	dir := t.TempDir()
	all := "set -e\n"
	for i, s := range texts {
		file := filepath.Join(dir, fmt.Sprintf("%d.sh", i))
		if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
		all += "sh " + file + "\n"
	}
	return run(t, all)
}

func passphrase(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "pass phrase")
	if err := os.WriteFile(file, []byte("correct horse"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
