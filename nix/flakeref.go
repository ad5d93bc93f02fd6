package nix

import (
	"fmt"
	"path/filepath"
	"strings"
	"unicode"
)

// A FlakeRef says where a flake is and which of its hosts is meant. Exactly one of
// Path and URL is set.
type FlakeRef struct {
	Path  string // folder on the workstation, to be uploaded
	Plain bool   // Path was written as "path:": the folder as it is, whatever git tracks
	URL   string // anything else, such as "github:owner/repo": the machine fetches it
	Name  string // the host under nixosConfigurations; empty if none was named
}

// ParseFlakeRef parses "REF" or "REF#NAME", where NAME may also be written in full
// as nixosConfigurations.NAME. A path (".", "./x", "/abs", "path:x") is a folder of
// the workstation. A bare word would be a name in Nix's registry, which is
// hardly ever meant, and is refused with both ways to say it.
func ParseFlakeRef(s string) (FlakeRef, error) {
	ref, attr, hasName := strings.Cut(s, "#")
	if strings.IndexFunc(s, unicode.IsControl) >= 0 {
		return FlakeRef{}, fmt.Errorf("flake %q: it holds control characters", s)
	}
	r, err := parseLocation(ref)
	if err == nil && hasName {
		r.Name, err = parseName(attr)
	}
	if err != nil {
		return FlakeRef{}, fmt.Errorf("flake %q: %w", s, err)
	}
	return r, nil
}

func parseLocation(ref string) (FlakeRef, error) {
	path, plain := strings.CutPrefix(ref, "path:")
	scheme, _, hasScheme := strings.Cut(ref, ":")
	switch {
	case path == "":
		return FlakeRef{}, fmt.Errorf("it names no flake: write, for example, . or github:owner/repo")
	case plain, isPath(ref):
		if strings.Contains(path, "?") {
			return FlakeRef{}, fmt.Errorf("parameters of a local flake are not supported: name the folder of its flake.nix, or write github:, git+https: and so on")
		}
		return FlakeRef{Path: filepath.Clean(path), Plain: plain}, nil
	case !hasScheme:
		return FlakeRef{}, fmt.Errorf("it may be a folder or a name of the registry: write ./%s or flake:%s", ref, ref)
	case scheme == "file" || strings.HasSuffix(scheme, "+file"):
		return FlakeRef{}, fmt.Errorf("the machine cannot fetch files of this workstation: name the folder, and it is uploaded")
	}
	return FlakeRef{URL: ref}, nil
}

// isPath reports whether Nix takes ref for a path and not for a name or a URL.
func isPath(ref string) bool {
	return ref == "." || ref == ".." || strings.HasPrefix(ref, "./") ||
		strings.HasPrefix(ref, "../") || strings.HasPrefix(ref, "/")
}

// parseName returns the host in NAME or nixosConfigurations.NAME. A host's name may
// hold dots, as web1.example.org does, so that it is not split.
func parseName(attr string) (string, error) {
	name, full := strings.CutPrefix(attr, "nixosConfigurations.")
	if len(name) > 2 && name[0] == '"' && name[len(name)-1] == '"' {
		name = name[1 : len(name)-1]
	}
	switch {
	case name == "":
		return "", fmt.Errorf("it names no host after #: write #NAME, a name under nixosConfigurations")
	case strings.ContainsAny(name, `"#`):
		return "", fmt.Errorf("nixos-install takes no host name with %q or %q in it", '"', '#')
	case full && strings.Contains(name, ".config."):
		return "", fmt.Errorf("it names a part of a host: end it at the host's name")
	}
	return name, nil
}
