package nix

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"
)

// An Installation says what nixos-install is to put on the file systems below Root.
// With neither Flake nor System it is the configuration.nix in Root/etc/nixos.
type Installation struct {
	Root   string   // where the new system's file systems are mounted; empty for /mnt
	Flake  string   // folder on the machine, or a URL, whose nixosConfigurations has Host
	Host   string   // with Flake only
	System string   // store path of a ready system, in the store below Root or in the machine's own
	Extra  []string // more arguments of nixos-install, such as "--option", "substitute", "false"
}

// Command returns the nixos-install command line. It never asks for a root password.
//
// The installer's channel is copied only for a plain configuration: that one is built
// from <nixpkgs> and rebuilt from it later, while flakes pin their own and a ready
// system has no use for it.
func (i Installation) Command() ([]string, error) {
	root := i.Root
	if root == "" {
		root = "/mnt"
	}
	argv := []string{"nixos-install", "--root", root, "--no-root-passwd"}
	switch {
	case i.Flake != "" && i.System != "":
		return nil, errors.New("install: both a flake and a ready system are given: choose one")
	case i.System != "":
		if !IsStorePath(i.System) {
			return nil, fmt.Errorf("install: %q is not a path of the nix store", i.System)
		}
		argv = append(argv, "--no-channel-copy", "--system", i.System)
	case i.Flake != "":
		ref, err := i.flake()
		if err != nil {
			return nil, fmt.Errorf("install: %w", err)
		}
		argv = append(argv, "--no-channel-copy", "--flake", ref)
	}
	return append(argv, i.Extra...), nil
}

// flake returns the reference for --flake. nixos-install puts the host into
// nixosConfigurations."HOST" itself.
func (i Installation) flake() (string, error) {
	if i.Host == "" {
		return "", fmt.Errorf("no host of flake %q is named", i.Flake)
	}
	if strings.ContainsAny(i.Host, `"#`) {
		return "", fmt.Errorf("nixos-install takes no host name like %q", i.Host)
	}
	if strings.Contains(i.Flake, "#") || path.IsAbs(i.Flake) && strings.Contains(i.Flake, "?") {
		return "", fmt.Errorf("nix would misread the name %q: rename the folder", i.Flake)
	}
	return i.Flake + "#" + fragment(i.Host), nil
}

// A store path as nix names it: 32 digits of its base 32, which lacks e, o, t and u,
// then a name of at most 211 characters.
var storePath = regexp.MustCompile(`^/nix/store/[0-9a-df-np-sv-z]{32}-[0-9A-Za-z+._?=-]{1,211}$`)

// IsStorePath reports whether s names an object of the Nix store, rather than
// something inside of one or elsewhere.
func IsStorePath(s string) bool { return storePath.MatchString(s) }
