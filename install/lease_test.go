package install

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// take runs the lease's script as the machine's shell does.
func take(t *testing.T, run, file string) (status int, said string) {
	t.Helper()
	cmd := exec.Command("sh", "-c", leaseScript, "sh", run, file)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), strings.TrimSpace(string(out))
}

func TestLease(t *testing.T) {
	file := filepath.Join(t.TempDir(), "nixctl", "lock")
	want := func(run string, status int, said string) {
		t.Helper()
		if got, text := take(t, run, file); got != status || text != said {
			t.Errorf("run %s: status %d, %q; want %d, %q", run, got, text, status, said)
		}
	}
	want("a", 0, "")
	want("a", 0, "") // renewed
	want("b", leaseStatus, "run a")

	// It ends when it is not renewed.
	old := time.Now().Add(-2 * time.Minute)
	if err := os.Chtimes(file, old, old); err != nil {
		t.Fatal(err)
	}
	want("b", 0, "")
	want("a", leaseStatus, "run b")
	if b, err := os.ReadFile(file); err != nil || string(b) != "b\n" {
		t.Errorf("the lease is %q, %v; want that of b", b, err)
	}
	info, err := os.Stat(filepath.Dir(file))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("folder %v, %v; want it private", info.Mode(), err)
	}
}
