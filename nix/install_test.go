package nix

import (
	"slices"
	"strings"
	"testing"
)

const toplevel = "/nix/store/0rwk0mnh4l8v5b5l1qz3smyrh86ag3vy-nixos-system-web1-25.05"

func TestInstallationCommand(t *testing.T) {
	for want, i := range map[string]Installation{
		"nixos-install --root /mnt --no-root-passwd":                                                                           {},
		"nixos-install --root /target --no-root-passwd --no-channel-copy --flake /target/etc/nixos#web1.example.org":           {Root: "/target", Flake: "/target/etc/nixos", Host: "web1.example.org"},
		"nixos-install --root /mnt --no-root-passwd --no-channel-copy --flake github:o/r?dir=x#a%20b --option keep-going true": {Flake: "github:o/r?dir=x", Host: "a b", Extra: []string{"--option", "keep-going", "true"}},
		"nixos-install --root /mnt --no-root-passwd --no-channel-copy --system " + toplevel:                                    {System: toplevel},
	} {
		got, err := i.Command()
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%+v: got %q, %v, want %q", i, got, err, want)
		}
	}
	for name, i := range map[string]Installation{
		"both":           {Flake: "/x", Host: "h", System: toplevel},
		"no host":        {Flake: "/x"},
		"quoted host":    {Flake: "/x", Host: `a"b`},
		"number sign":    {Flake: "/x#y", Host: "h"},
		"question mark":  {Flake: "/x?y", Host: "h"},
		"not the store":  {System: "/etc/nixos"},
		"inside a store": {System: toplevel + "/init"},
	} {
		if got, err := i.Command(); err == nil {
			t.Errorf("%s: got %q, want an error", name, got)
		}
	}
}

func TestIsStorePath(t *testing.T) {
	for _, s := range []string{toplevel, "/nix/store/qp2422fm4lgfh6979k71gsw0n9nf512m-a+b._?=-0"} {
		if !IsStorePath(s) {
			t.Errorf("%q is a store path", s)
		}
	}
	hash := "/nix/store/qp2422fm4lgfh6979k71gsw0n9nf512m-"
	for _, s := range []string{"", hash, hash + "x/y", hash + "x\n", hash + "a b", "/gnu" + hash[4:] + "x",
		"/nix/store/ep2422fm4lgfh6979k71gsw0n9nf512m-x", hash + strings.Repeat("x", 212), "--help", "/nix/store/../etc"} {
		if IsStorePath(s) {
			t.Errorf("%q is no store path", s)
		}
	}
}

func TestRemoteCommands(t *testing.T) {
	if got, want := ImportCommand("/mnt"), []string{"nix-store", "--store", "/mnt", "--import"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
