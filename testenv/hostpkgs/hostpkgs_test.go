package hostpkgs

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestMissing(t *testing.T) {
	all := []Package{{"qemu", []string{"qemu"}}, {"ssh", []string{"ssh", "sshd"}}, {"ovmf", []string{"/fw.fd"}}}
	for _, tc := range []struct {
		there []string
		want  []Package
	}{
		{[]string{"qemu", "ssh", "sshd", "/fw.fd"}, nil},
		{[]string{"qemu", "ssh"}, []Package{{"ssh", []string{"sshd"}}, {"ovmf", []string{"/fw.fd"}}}},
		{nil, all},
	} {
		got := missing(all, func(use string) bool { return slices.Contains(tc.there, use) })
		if !reflect.DeepEqual(got, tc.want) {
			t.Errorf("with %q: %v, want %v", tc.there, got, tc.want)
		}
	}
	if len(all[1].Uses) != 2 {
		t.Error("the list of packages was changed")
	}
}

func TestLookup(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	program, text := filepath.Join(dir, "lab-program"), filepath.Join(dir, "lab-text")
	for file, mode := range map[string]os.FileMode{program: 0o755, text: 0o644} {
		if err := os.WriteFile(file, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	for use, want := range map[string]bool{
		"lab-program": true, "lab-text": false, text: true, "lab-none": false, filepath.Join(dir, "none"): false,
	} {
		if got := lookup(use); got != want {
			t.Errorf("lookup(%q) = %v", use, got)
		}
	}
}

func TestComplain(t *testing.T) {
	err := complain([]Package{{"nix-bin", []string{"nix"}}, {"openssh-client", []string{"ssh", "ssh-keyscan"}}})
	if !errors.Is(err, ErrMissing) {
		t.Errorf("%v is not ErrMissing", err)
	}
	for _, part := range []string{"nix (package nix-bin)", "ssh, ssh-keyscan (package openssh-client)",
		"apt-get install --no-install-recommends nix-bin openssh-client", "nix develop"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
}

func TestDebianLike(t *testing.T) {
	for text, want := range map[string]bool{
		"NAME=\"Debian GNU/Linux\"\nID=debian\n":    true,
		"ID=ubuntu\nID_LIKE=debian\n":               true,
		"ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n": true,
		"ID=nixos\nNAME=\"not debian\"\n":           false,
		"":                                          false,
	} {
		file := filepath.Join(t.TempDir(), "os-release")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := debianLike(file); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
	if debianLike("/nowhere/os-release") {
		t.Error("no os-release is no Debian")
	}
}

// TestEnsureNothingToDo runs no program when nothing is missing: with an
// apt-get that fails, Ensure succeeds.
func TestEnsureNothingToDo(t *testing.T) {
	if m := Missing(); len(m) > 0 {
		t.Skipf("needs the lab's packages; missing: %v", m)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "apt-get"), []byte("#!/bin/sh\nexit 9\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	var out strings.Builder
	if err := Ensure(t.Context(), &out); err != nil || out.Len() > 0 {
		t.Errorf("%v, %q", err, out.String())
	}
}
