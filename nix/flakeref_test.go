package nix

import (
	"strings"
	"testing"
)

func TestParseFlakeRef(t *testing.T) {
	for in, want := range map[string]FlakeRef{
		".":                                      {Path: "."},
		".#web1":                                 {Path: ".", Name: "web1"},
		"./hosts/":                               {Path: "hosts"},
		"..#a":                                   {Path: "..", Name: "a"},
		"/etc/nixos#web1.example.org":            {Path: "/etc/nixos", Name: "web1.example.org"},
		"path:/etc/nixos#nixosConfigurations.w":  {Path: "/etc/nixos", Plain: true, Name: "w"},
		"path:hosts":                             {Path: "hosts", Plain: true},
		`.#nixosConfigurations."a b"`:            {Path: ".", Name: "a b"},
		"github:owner/repo/v1?dir=x#web1":        {URL: "github:owner/repo/v1?dir=x", Name: "web1"},
		"git+https://example.org/x.git?ref=main": {URL: "git+https://example.org/x.git?ref=main"},
		"git+ssh://git@example.org/x#w":          {URL: "git+ssh://git@example.org/x", Name: "w"},
		"flake:mine#w":                           {URL: "flake:mine", Name: "w"},
	} {
		if got, err := ParseFlakeRef(in); err != nil || got != want {
			t.Errorf("ParseFlakeRef(%q) = %+v, %v, want %+v", in, got, err, want)
		}
	}
}

func TestParseFlakeRefRefuses(t *testing.T) {
	for in, why := range map[string]string{
		"":                       "names no flake",
		"#web1":                  "names no flake",
		"path:":                  "names no flake",
		"dotfiles#web1":          "./dotfiles or flake:dotfiles",
		".#":                     "names no host",
		".#nixosConfigurations.": "names no host",
		".#a#b":                  "no host name with",
		`.#a"b`:                  "no host name with",
		".#nixosConfigurations.w.config.system.build.toplevel": "part of a host",
		"./x?dir=y#w":             "parameters",
		"git+file:///home/u/x#w":  "cannot fetch files of this workstation",
		"file:///x.tar.gz":        "cannot fetch files of this workstation",
		".#web1\n":                "control characters",
		"github:owner/repo\x00#w": "control characters",
	} {
		if got, err := ParseFlakeRef(in); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("ParseFlakeRef(%q) = %+v, %v, want an error with %q", in, got, err, why)
		}
	}
}

func FuzzParseFlakeRef(f *testing.F) {
	f.Add(".#web1")
	f.Add(`path:x#nixosConfigurations."a b"`)
	f.Add("github:o/r#w")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseFlakeRef(s)
		if err != nil {
			return
		}
		if (r.Path == "") == (r.URL == "") {
			t.Errorf("ParseFlakeRef(%q) = %+v: want exactly one of Path and URL", s, r)
		}
		if r.Name == "" {
			return
		}
		if _, err := (Installation{Flake: "/mnt/etc/nixos", Host: r.Name}).Command(); err != nil {
			t.Errorf("ParseFlakeRef(%q) accepts a host that cannot be installed: %v", s, err)
		}
	})
}
