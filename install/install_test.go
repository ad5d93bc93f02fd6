package install_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/nixctl/nixctl/agent/facts"
	"github.com/nixctl/nixctl/install"
	"github.com/nixctl/nixctl/install/command"
	"github.com/nixctl/nixctl/install/disk"
	"github.com/nixctl/nixctl/install/target"
)

const (
	secretKey        = "-----BEGIN OPENSSH PRIVATE KEY----- planted-host-key"
	secretPassphrase = "planted-passphrase"
)

// spec is one that can be installed.
func spec() install.Spec {
	return install.Spec{
		Run: "20260102_030405_abcdef", Host: "web1",
		Machine: facts.Facts{Architecture: "x86_64-linux", Memory: 4 << 30, MemoryAvailable: 3 << 30, StoreAvailable: 1 << 30,
			Firmware: "uefi", Installer: true, BootID: "b"},
		Disk: facts.Disk{Path: "/dev/sda", Serial: "S1", Size: 64 << 30, SectorSize: 512,
			Volume: facts.Volume{Device: "/dev/sda", Kind: "disk"}},
		Layout: disk.Layout{FileSystem: disk.Ext4, Firmware: disk.UEFI, ID: "20260102_030405_abcdef"},
		System: install.System{Title: "a test", Command: []string{"nixos-install", "--root", "/mnt"},
			Files: []target.File{install.Data("/mnt/etc/nixos/configuration.nix", 0o644, []byte("{ }"))}},
		HostKey: []byte(secretKey), HostPublic: []byte("ssh-ed25519 AAAA web1"), Passphrase: []byte(secretPassphrase),
	}
}

func TestRefusals(t *testing.T) {
	tests := []struct {
		name   string
		change func(*install.Spec)
		want   error
		text   string
	}{
		{"not an installer", func(s *install.Spec) { s.Machine.Installer = false }, install.ErrUnfit, "installer"},
		{"another architecture", func(s *install.Spec) { s.System.Architecture = "aarch64-linux" }, install.ErrUnfit, "aarch64-linux"},
		{"UEFI on a BIOS machine", func(s *install.Spec) { s.Machine.Firmware = "bios" }, install.ErrUnfit, "--boot"},
		{"little memory", func(s *install.Spec) { s.Machine.Memory = 256 << 20 }, install.ErrUnfit, "256 MiB of memory"},
		{"a full store", func(s *install.Spec) { s.Machine.StoreAvailable = 1 << 20 }, install.ErrUnfit, "store"},
		{"boot medium", func(s *install.Spec) { s.Disk.BootMedium = true }, disk.ErrRefused, "boot"},
		{"read-only", func(s *install.Spec) { s.Disk.ReadOnly = true }, disk.ErrRefused, "read-only"},
		{"mounted", func(s *install.Spec) { s.Disk.FileSystem, s.Disk.Mounts, s.Wipe = "ext4", []string{"/data"}, true }, disk.ErrRefused, "/data"},
		{"content", func(s *install.Spec) { s.Disk.FileSystem = "ext4" }, disk.ErrRefused, "--wipe"},
		{"too small", func(s *install.Spec) { s.Disk.Size = 1 << 30 }, disk.ErrRefused, "needs"},
		{"too small for the system", func(s *install.Spec) {
			s.System.Closure = &install.Closure{Paths: []string{"/nix/store/x"}, Sizes: []int64{64 << 30}}
		}, disk.ErrRefused, "needs"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := spec()
			tt.change(&s)
			p, err := install.New(s)
			if !errors.Is(err, tt.want) || p != nil {
				t.Fatalf("plan %v, error %v; want %v", p, err, tt.want)
			}
			if !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error %q does not tell of %q", err, tt.text)
			}
		})
	}
}

func steps(p *install.Plan) []string {
	var names []string
	for _, s := range p.Steps {
		names = append(names, s.Name)
	}
	return names
}

func TestSteps(t *testing.T) {
	tests := []struct {
		name   string
		change func(*install.Spec)
		want   string
	}{
		{"usual", func(*install.Spec) {}, "prepare disk, detect hardware, fetch hardware, upload, install system, fetch system, unmount, reboot"},
		{"encrypted", func(s *install.Spec) { s.Layout.Encrypt = true }, "send passphrase, prepare disk, detect hardware, fetch hardware, upload, install system, fetch system, unmount, reboot"},
		{"no reboot", func(s *install.Spec) { s.NoReboot = true }, "prepare disk, detect hardware, fetch hardware, upload, install system, fetch system, unmount"},
		{"ready system", func(s *install.Spec) { s.System.Closure = &install.Closure{} }, "prepare disk, detect hardware, fetch hardware, upload, send system, install system, fetch system, unmount, reboot"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := spec()
			tt.change(&s)
			p, err := install.New(s)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(steps(p), ", "); got != tt.want {
				t.Errorf("steps\n got %s\nwant %s", got, tt.want)
			}
		})
	}
}

// TestSecretsStayOut: what is printed, and what becomes a script or a command line,
// has none of the secrets; they are in files for their owner only.
func TestSecretsStayOut(t *testing.T) {
	s := spec()
	s.Layout.Encrypt = true
	p, err := install.New(s)
	if err != nil {
		t.Fatal(err)
	}
	text := p.String()
	for _, step := range p.Steps {
		if a, ok := step.Action.(install.Script); ok {
			text += a.Text
		}
	}
	for _, secret := range []string{secretKey, secretPassphrase} {
		if strings.Contains(text, secret) {
			t.Errorf("the plan shows %q", secret)
		}
	}
	private := 0
	for _, step := range p.Steps {
		if a, ok := step.Action.(install.Upload); ok {
			for _, f := range a.Files {
				if strings.Contains(content(t, f), "planted") {
					private++
					if f.Mode != 0o600 {
						t.Errorf("%s holds a secret and has mode %v", f.Path, f.Mode)
					}
				}
			}
		}
	}
	if private != 2 {
		t.Errorf("%d files hold the secrets, want 2", private)
	}
}

func content(t *testing.T, f target.File) string {
	t.Helper()
	r, err := f.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A recorder is a machine that notes what is asked of it and fails at one job.
type recorder struct {
	asked   []string
	fail    string
	missing string
	leased  bool // by another run
	got     bytes.Buffer
}

var errBroken = errors.New("broken")

func (r *recorder) Run(_ context.Context, job target.Job, out func(string)) error {
	r.asked = append(r.asked, "run "+job.ID)
	if r.fail != "" && strings.HasSuffix(job.ID, r.fail) {
		return errBroken
	}
	out("working")
	return nil
}

func (r *recorder) Upload(_ context.Context, files []target.File, progress func(done, total int64)) error {
	for _, f := range files {
		r.asked = append(r.asked, fmt.Sprintf("upload %s %v", f.Path, f.Mode))
	}
	progress(1, 2)
	return nil
}

func (r *recorder) Output(_ context.Context, c command.Command) ([]byte, error) {
	if c.Argv[0] == "sh" { // the lease
		if r.leased {
			return nil, &target.ExitError{Name: "sh", Status: 75, Output: []byte("run other")}
		}
		return nil, nil
	}
	r.asked = append(r.asked, c.Argv[0])
	return []byte(r.missing), nil
}

func (r *recorder) Pipe(_ context.Context, c command.Command, stdin io.Reader, _ func(string)) error {
	r.asked = append(r.asked, c.Argv[0])
	_, err := r.got.ReadFrom(stdin)
	return err
}

func (r *recorder) ReadFile(_ context.Context, path string, _ int64) ([]byte, error) {
	return nil, fs.ErrNotExist
}

func (r *recorder) Reboot(context.Context) error {
	r.asked = append(r.asked, "reboot")
	return nil
}

// keeper is a log that notes the events.
type keeper struct{ events []string }

func (k *keeper) Report(e install.Event) {
	k.events = append(k.events, fmt.Sprintf("%s %d %s", e.Kind, e.Step, e.Name))
}

func (k *keeper) Keep(string, []byte) error { return nil }

// TestFailedStep: nothing comes after a step that failed, and its end is told.
func TestFailedStep(t *testing.T) {
	p, err := install.New(spec())
	if err != nil {
		t.Fatal(err)
	}
	m, log := &recorder{fail: "/02-detect-hardware"}, &keeper{}
	err = p.Run(t.Context(), m, log)
	var step *install.StepError
	if !errors.As(err, &step) || step.Step != 2 || !errors.Is(err, errBroken) {
		t.Fatalf("error %v, want one of step 2", err)
	}
	want := []string{"started 1 prepare disk", "output 1 prepare disk", "done 1 prepare disk", "started 2 detect hardware", "failed 2 detect hardware"}
	if !slices.Equal(log.events, want) {
		t.Errorf("events\n got %q\nwant %q", log.events, want)
	}
	if want := []string{"run 20260102_030405_abcdef/01-prepare-disk", "run 20260102_030405_abcdef/02-detect-hardware"}; !slices.Equal(m.asked, want) {
		t.Errorf("asked\n got %q\nwant %q", m.asked, want)
	}
}

// TestLocked: nothing is done on a machine that another run has leased.
func TestLocked(t *testing.T) {
	p, err := install.New(spec())
	if err != nil {
		t.Fatal(err)
	}
	m := &recorder{leased: true}
	if err := p.Run(t.Context(), m, &keeper{}); !errors.Is(err, install.ErrLocked) || len(m.asked) > 0 {
		t.Errorf("error %v after %q, want %v and nothing done", err, m.asked, install.ErrLocked)
	}
}

// TestSend: only the store paths that the machine lacks are exported.
func TestSend(t *testing.T) {
	p := &install.Plan{ID: "r", Steps: []install.Step{{Name: "send system", Action: install.Send{Closure: &install.Closure{
		Paths: []string{"/nix/store/a", "/nix/store/b"}, Sizes: []int64{1, 2},
		Export: func(_ context.Context, paths []string, w io.Writer) error {
			_, err := io.WriteString(w, strings.Join(paths, " "))
			return err
		},
	}}}}}
	for missing, want := range map[string]string{"/nix/store/b\n": "/nix/store/b", "": "", "/nix/store/b\n/nix/store/private\n": "/nix/store/b"} {
		m := &recorder{missing: missing}
		if err := p.Run(t.Context(), m, &keeper{}); err != nil {
			t.Fatal(err)
		}
		if m.got.String() != want {
			t.Errorf("missing %q: sent %q, want %q", missing, m.got.String(), want)
		}
	}
}

// TestCancelled: a cancelled run does not begin another step.
func TestCancelled(t *testing.T) {
	p, err := install.New(spec())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m := &recorder{}
	if err := p.Run(ctx, m, &keeper{}); !errors.Is(err, context.Canceled) || len(m.asked) > 0 {
		t.Errorf("error %v after %q, want none begun and %v", err, m.asked, context.Canceled)
	}
}
