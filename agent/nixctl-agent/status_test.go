//go:build linux

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nixctl/nixctl/agent/announce"
)

func TestState(t *testing.T) {
	tests := []struct {
		name  string
		files []string // "run/step.kind" or "run/step.status=text"
		want  string
	}{
		{"nothing", nil, "ready to be installed"},
		{"begun", []string{"1/01-mount.ran"}, "installing: 01-mount"},
		{"between steps", []string{"1/01-mount.ran", "1/01-mount.status=exit 0\n"}, "installing: done with 01-mount"},
		{"second step", []string{"1/01-mount.ran", "1/01-mount.status=exit 0\n", "1/02-install.ran"}, "installing: 02-install"},
		{"ends just now", []string{"1/01-mount.ran", "1/01-mount.status="}, "installing: 01-mount"},
		{"failed", []string{"1/01-mount.ran", "1/01-mount.status=exit 1\n"}, "installation failed at 01-mount"},
		{"begun again", []string{"1/01-mount.ran", "1/01-mount.status=killed oom\n", "2/01-mount.ran"}, "installing: 01-mount"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, f := range tt.files {
				name, text, _ := strings.Cut(f, "=")
				file := filepath.Join(dir, name)
				if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			v := view{runs: dir}
			if got := v.state(); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// TestStatus shows the words and fingerprint of a key, and that there is none.
func TestStatus(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key.pub")
	var out, errs bytes.Buffer
	args := []string{"status", "--host-key", file, "--name", "web1"}
	if code := run(t.Context(), args, nil, &out, &errs); code != exitOK || !strings.Contains(out.String(), "waiting for an SSH host key") {
		t.Fatalf("exit %d, %q, %s; want it to wait for a key", code, out.String(), errs.String())
	}
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl x\n"
	if err := os.WriteFile(file, []byte(key), 0o644); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	if code := run(t.Context(), args, nil, &out, &errs); code != exitOK {
		t.Fatalf("exit %d: %s", code, errs.String())
	}
	claim, err := announce.Machine{HostKey: file}.Claim(nil)
	if err != nil {
		t.Fatal(err)
	}
	v := view{machine: announce.Machine{HostKey: file}}
	for _, want := range []string{"web1", claim.Fingerprint, v.status().Words} {
		if want == "" || !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
}
