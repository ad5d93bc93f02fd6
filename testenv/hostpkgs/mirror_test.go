package hostpkgs

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestMirror(t *testing.T) {
	for _, tc := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"nothing", nil, ""},
		{"deb822", map[string]string{"sources.list.d/debian.sources": `Types: deb
# http://snapshot.example/archive/debian/20250520T000000Z
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
`}, "http://mirror.example/debian"},
		{"deb822: security first, continued lines, odd case, two types", map[string]string{"sources.list.d/debian.sources": `types: deb
uris: http://mirror.example/debian-security
suites: bookworm-security

TYPES: deb deb-src
URIs:
 ftp://old.example/debian
# a comment inside
 https://mirror.example/mirrors/debian/
Suites: trixie
`}, "https://mirror.example/mirrors/debian"},
		{"deb822: disabled or source only", map[string]string{"sources.list.d/debian.sources": `Enabled: no
Types: deb
URIs: http://off.example/debian

Types: deb-src
URIs: http://source.example/debian
`}, ""},
		{"one line", map[string]string{"sources.list": `# deb http://commented.example/debian trixie main
deb-src http://source.example/debian trixie main
deb http://security.example/debian-security trixie-security main
deb [ arch=amd64 signed-by=/usr/share/keyrings/x.gpg ] http://mirror.example/debian trixie main # the near one
`}, "http://mirror.example/debian"},
		{"tabs", map[string]string{"sources.list.d/a.list": "deb\thttp://mirror.example/debian\ttrixie main\n"}, "http://mirror.example/debian"},
		{"other people's repositories", map[string]string{
			"sources.list.d/cloud.list":     "deb https://packages.example/apt cloud-sdk main\n",
			"sources.list.d/ubuntu.sources": "Types: deb\nURIs: http://archive.example/ubuntu\n",
		}, ""},
		{"nonsense", map[string]string{"sources.list": "deb\ndeb [\ndeb [a] \ndeb http://x.example/debian\n", "sources.list.d/x.sources": " lead\n:\nTypes\n"}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range tc.files {
				write(t, filepath.Join(dir, name), text)
			}
			got, err := mirrorOf(dir)
			if got != tc.want || errors.Is(err, ErrNoMirror) != (tc.want == "") {
				t.Errorf("got %q, %v, want %q", got, err, tc.want)
			}
		})
	}
}

func TestMirrorUnreadable(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "sources.list"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := mirrorOf(dir); err == nil {
		t.Error("a folder was read as apt's sources")
	}
}

func FuzzMirror(f *testing.F) {
	f.Add("deb [a=b] http://mirror.example/debian trixie main")
	f.Add("Types: deb\nURIs: http://mirror.example/debian\n continued\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, uri := range append(parseList(text), parseDeb822(text)...) {
			if uri == "" {
				t.Errorf("empty address from %q", text)
			}
			isDebian(uri)
		}
	})
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
