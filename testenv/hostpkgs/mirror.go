package hostpkgs

import (
	"bufio"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// mirrorVariable names the archive on a machine whose apt names none.
const mirrorVariable = "NIXCTL_DEBIAN_MIRROR"

// ErrNoMirror says that nothing names a Debian archive.
var ErrNoMirror = errors.New("apt names no Debian archive; set " + mirrorVariable + " to the address of one")

// Mirror returns the address of the Debian archive that this machine's apt is
// configured to use, so that the image's packages come from where its own do.
// A machine whose apt names no Debian archive (Ubuntu, NixOS) takes that of
// NIXCTL_DEBIAN_MIRROR.
func Mirror() (string, error) {
	if m := os.Getenv(mirrorVariable); m != "" {
		return m, nil
	}
	return mirrorOf("/etc/apt")
}

func mirrorOf(aptDir string) (string, error) {
	files := []string{filepath.Join(aptDir, "sources.list")}
	for _, ext := range []string{"*.sources", "*.list"} {
		more, err := filepath.Glob(filepath.Join(aptDir, "sources.list.d", ext))
		if err != nil {
			return "", err
		}
		files = append(files, more...)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue
		} else if err != nil {
			return "", fmt.Errorf("apt's sources: %w", err)
		}
		parse := parseList
		if strings.HasSuffix(file, ".sources") {
			parse = parseDeb822
		}
		for _, uri := range parse(string(text)) {
			if isDebian(uri) {
				return strings.TrimSuffix(uri, "/"), nil
			}
		}
	}
	return "", ErrNoMirror
}

// isDebian tells the main archive from those for security updates and from
// other people's repositories by its path, which every mirror keeps.
func isDebian(uri string) bool {
	u, err := url.Parse(uri)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" &&
		strings.HasSuffix(strings.TrimRight(u.Path, "/"), "/debian")
}

// parseList returns the addresses in the one-line format (sources.list(5)):
// deb [option=value ...] uri suite component...
func parseList(text string) []string {
	var uris []string
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		if before, rest, ok := strings.Cut(line, "["); ok {
			_, after, _ := strings.Cut(rest, "]")
			line = before + after
		}
		if f := strings.Fields(line); len(f) >= 3 && f[0] == "deb" {
			uris = append(uris, f[1])
		}
	}
	return uris
}

// parseDeb822 returns the addresses in the paragraph format (sources.list(5)) of
// those paragraphs that are enabled and offer binary packages.
func parseDeb822(text string) []string {
	var uris []string
	for _, p := range paragraphs(text) {
		binary := slices.Contains(strings.Fields(p["types"]), "deb")
		if binary && !slices.Contains([]string{"no", "false", "0", "off", "disable"}, strings.ToLower(p["enabled"])) {
			uris = append(uris, strings.Fields(p["uris"])...)
		}
	}
	return uris
}

// paragraphs splits a deb822 file into its paragraphs' fields, their names in
// lower case and continued lines joined.
func paragraphs(text string) []map[string]string {
	current := map[string]string{}
	all := []map[string]string{current}
	key := ""
	for sc := bufio.NewScanner(strings.NewReader(text)); sc.Scan(); {
		line := sc.Text()
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.TrimSpace(line) == "":
			current, key = map[string]string{}, ""
			all = append(all, current)
		case line[0] == ' ' || line[0] == '\t':
			if key != "" {
				current[key] += " " + strings.TrimSpace(line)
			}
		default:
			name, value, _ := strings.Cut(line, ":")
			key = strings.ToLower(strings.TrimSpace(name))
			current[key] = strings.TrimSpace(value)
		}
	}
	return all
}
