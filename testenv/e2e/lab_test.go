package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nixctl/nixctl/controller/vm"
	"github.com/nixctl/nixctl/testenv/image"
	"github.com/nixctl/nixctl/testenv/lab"
	"github.com/nixctl/nixctl/testenv/lan"
)

const gib = 1 << 30

// programs are built once for all tests.
var programs = sync.OnceValues(func() (*lab.Programs, error) {
	dir, err := os.MkdirTemp("", "nixctl-e2e-")
	if err != nil {
		return nil, err
	}
	return lab.Build(context.Background(), dir)
})

func TestMain(m *testing.M) {
	code := m.Run()
	if p, err := programs(); err == nil {
		os.RemoveAll(filepath.Dir(p.Nixctl))
	}
	os.Exit(code)
}

// bench is a lab and the test that uses it.
type bench struct {
	*lab.Lab
	t *testing.T
}

func newLab(t *testing.T) *bench {
	t.Helper()
	if testing.Short() {
		t.Skip("boots machines: not with -short")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	p, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	img, err := image.Ensure(t.Context(), func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	l, err := lab.New(t.Context(), lab.Config{LAN: lan.Config{}, Image: img, Programs: p})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{l, t}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	return b
}

// boot starts a guest and waits until it can be logged in to. A guest that crashed
// proves nothing: that fails the test, whatever else it saw.
func (b *bench) boot(s lab.Spec) *lab.Guest {
	b.t.Helper()
	g := b.start(s)
	b.up(g)
	return g
}

func (b *bench) start(s lab.Spec) *lab.Guest {
	b.t.Helper()
	g, err := b.Start(b.t.Context(), s)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		if err := g.CheckSerial(); err != nil {
			b.t.Error(err)
		}
		if b.t.Failed() {
			log, _ := os.ReadFile(g.SerialLog())
			b.t.Logf("serial log of %s ends with:\n%s", g.Name, log[max(0, len(log)-3000):])
		}
	})
	return g
}

func (b *bench) up(g *lab.Guest) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 5*time.Minute)
	defer cancel()
	if err := g.WaitSSH(ctx); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) hostKey(name string) string {
	b.t.Helper()
	key, err := b.HostKey(name)
	if err != nil {
		b.t.Fatal(err)
	}
	return key
}

// An outcome is what a run of nixctl left.
type outcome struct {
	code           int
	stdout, stderr string
}

// run runs nixctl on the workstation and checks its exit code.
func (b *bench) run(code int, args ...string) outcome {
	b.t.Helper()
	return b.finish(code, b.Nixctl(b.t.Context(), args...))
}

func (b *bench) finish(code int, cmd *exec.Cmd) outcome {
	b.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	o := outcome{stdout: stdout.String(), stderr: stderr.String()}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		o.code = exit.ExitCode()
	case err != nil:
		b.t.Fatal(err)
	}
	if o.code != code {
		b.t.Fatalf("%q: exit %d, want %d\nstdout:\n%s\nstderr:\n%s", cmd.Args, o.code, code, o.stdout, o.stderr)
	}
	return o
}

// flake is a copy of the tiny system's flake that lets the lab's user log in.
func (b *bench) flake() string {
	b.t.Helper()
	dir, err := b.CopyFlake()
	if err != nil {
		b.t.Fatal(err)
	}
	return dir
}

// A line is one of "install --json".
type line struct {
	Kind    string
	Step    int
	Name    string
	Line    string
	Error   string
	Seconds float64
	Code    int
	Proof   *struct {
		Host, Address, System string
		HostKey               string `json:"host_key"`
		BootID                string `json:"boot_id"`
		KnownHosts            string `json:"known_hosts"`
		Login                 string
		Seconds               float64
	}
}

func (b *bench) lines(o outcome) []line {
	b.t.Helper()
	var out []line
	for l := range strings.Lines(o.stdout) {
		var e line
		if err := json.Unmarshal([]byte(l), &e); err != nil {
			b.t.Fatalf("line %q: %v", l, err)
		}
		out = append(out, e)
	}
	return out
}

// install runs "install --json" and returns its result, which is proved.
func (b *bench) install(args ...string) line {
	b.t.Helper()
	o := b.run(0, append([]string{"install", "--json", "--yes"}, args...)...)
	lines := b.lines(o)
	last := lines[len(lines)-1]
	if last.Kind != "result" || last.Code != 0 || last.Proof == nil {
		b.t.Fatalf("the last line is %+v, want a result with a proof", last)
	}
	for _, l := range lines {
		if l.Kind == "done" {
			b.t.Logf("%-16s %5.1f s", l.Name, l.Seconds)
		}
	}
	b.t.Logf("%-16s %5.1f s", "boot and proof", last.Proof.Seconds)
	return last
}

// login logs in to the installed machine with OpenSSH, with nothing but the
// known_hosts that nixctl wrote, and returns what the command prints.
func (b *bench) login(result line, command string) string {
	b.t.Helper()
	cmd := b.LAN.Command(b.t.Context(), "ssh", "-F", "none", "-i", b.UserKey(), "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes",
		"-o", "UserKnownHostsFile="+result.Proof.KnownHosts, "-o", "GlobalKnownHostsFile=none", "root@"+result.Proof.Address, command)
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.t.Fatalf("ssh: %v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}

func drive(bus, serial string, size int64) lab.Disk {
	return lab.Disk{Disk: vm.Disk{Bus: bus, Serial: serial}, Size: size}
}

// want fails the test unless text has all of parts.
func (b *bench) want(text string, parts ...string) {
	b.t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			b.t.Errorf("no %q in:\n%s", p, text)
		}
	}
}
