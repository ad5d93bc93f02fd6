package nix

import (
	"encoding/json"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// needs skips the test where a program is missing.
func needs(t testing.TB, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("needs %s", program)
	}
}

// eval evaluates a Nix expression and decodes its value into v.
func eval(t testing.TB, expression string, v any) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "expression.nix")
	if err := os.WriteFile(file, []byte(expression), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("nix-instantiate", "--store", "dummy://", "--eval", "--strict", "--json", file)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("nix-instantiate: %v\n%s\n%s", err, stderr.String(), expression)
	}
	if err := json.Unmarshal(out, v); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
}

// nasty are pieces that mean something to Nix, or nearly.
var nasty = []string{`"`, `\`, "$", "{", "}", "${", "$${", `\${`, "''", "\n", "\r", "\r\n", "\t", "\x01", "\x1b", "\x7f",
	"a", "nul", " ", "#", "/*", "é", "😀", "\u202e", "builtins.abort", "~", "\u0085", "\ufeff", `\n`}

func random(r *rand.Rand) string {
	var b strings.Builder
	for range r.IntN(12) {
		b.WriteString(nasty[r.IntN(len(nasty))])
	}
	return b.String()
}

// TestQuoteMeansItself has Nix read back thousands of strings and attribute names.
func TestQuoteMeansItself(t *testing.T) {
	needs(t, "nix-instantiate")
	r := rand.New(rand.NewPCG(1, 2))
	want := append([]string{"", "if", "or", "x", "a b", "a.b", "3d", "x-1'"}, nasty...)
	for range 3000 {
		want = append(want, random(r))
	}
	var values, names strings.Builder
	for _, s := range want {
		q, err := Quote(s)
		if err != nil {
			t.Fatal(err)
		}
		a, err := QuoteAttr(s)
		if err != nil {
			t.Fatal(err)
		}
		values.WriteString(q + "\n")
		names.WriteString("{ " + a + " = 1; }\n")
	}
	var got struct{ Values, Names []string }
	eval(t, `{ Values = [ `+values.String()+` ]; Names = map (s: builtins.head (builtins.attrNames s)) [ `+names.String()+` ]; }`, &got)
	if !slices.Equal(got.Values, want) {
		t.Errorf("strings: %s", firstDifference(got.Values, want))
	}
	if !slices.Equal(got.Names, want) {
		t.Errorf("attribute names: %s", firstDifference(got.Names, want))
	}
}

func firstDifference(got, want []string) string {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return "nix read " + got[i] + ", want " + want[i]
		}
	}
	return "numbers differ"
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{
		"":               `""`,
		"web1":           `"web1"`,
		"a\"b\\c":        `"a\"b\\c"`,
		"${x} $${y} $":   `"\${x} \$\${y} \$"`,
		"one\r\n\ttwo\n": `"one\r\n\ttwo\n"`,
	} {
		if got, err := Quote(in); err != nil || got != want {
			t.Errorf("Quote(%q) = %s, %v, want %s", in, got, err, want)
		}
	}
	for _, in := range []string{"a\x00b", "\xff"} {
		if got, err := Quote(in); !errors.Is(err, ErrUnquotable) {
			t.Errorf("Quote(%q) = %s, %v, want ErrUnquotable", in, got, err)
		}
		if got, err := QuoteAttr(in); !errors.Is(err, ErrUnquotable) {
			t.Errorf("QuoteAttr(%q) = %s, %v, want ErrUnquotable", in, got, err)
		}
	}
}

func FuzzQuote(f *testing.F) {
	needs(f, "nix-instantiate")
	f.Add("${a}\r\n\\\"")
	f.Fuzz(func(t *testing.T, s string) {
		q, err := Quote(s)
		if err != nil {
			if utf8.ValidString(s) && !strings.Contains(s, "\x00") {
				t.Fatal(err)
			}
			return
		}
		var got string
		if eval(t, q, &got); got != s {
			t.Errorf("nix read %q, want %q", got, s)
		}
	})
}

// TestFragment has nix find hosts by the reference that nixos-install would build.
func TestFragment(t *testing.T) {
	needs(t, "nix")
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	dir := t.TempDir()
	names := []string{"web1", "web1.example.org", "a b", "user@host", "100%41", "ö", "a'+()&=$?/~"}
	var hosts strings.Builder
	for _, n := range names {
		q, err := Quote(n)
		if err != nil {
			t.Fatal(err)
		}
		hosts.WriteString("nixosConfigurations." + q + " = " + q + ";\n")
	}
	flake := "{ outputs = _: {\n" + hosts.String() + "}; }"
	if err := os.WriteFile(filepath.Join(dir, "flake.nix"), []byte(flake), 0o600); err != nil {
		t.Fatal(err)
	}
	store := t.TempDir()
	for _, n := range names {
		cmd := exec.Command("nix", "--extra-experimental-features", "nix-command flakes", "--store", store,
			"eval", "--raw", dir+`#nixosConfigurations."`+fragment(n)+`"`)
		if out, err := cmd.CombinedOutput(); err != nil || !strings.HasSuffix(string(out), n) {
			t.Errorf("nix eval of %q: %v, %s", n, err, out)
		}
	}
}

// TestFlakeRefOfSubfolder has nix evaluate a flake that needs a file beside its folder,
// copied to where no git is.
func TestFlakeRefOfSubfolder(t *testing.T) {
	needs(t, "nix")
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	dir := tempDir(t)
	tree := &Tree{Sub: "a b#?%/web"}
	write(t, dir, map[string]fs.FileMode{tree.Sub + "/flake.nix": 0o644, "modules/x.nix": 0o644})
	for name, content := range map[string]string{
		tree.Sub + "/flake.nix": `{ outputs = _: { nixosConfigurations.web1 = import ../../modules/x.nix; }; }`,
		"modules/x.nix":         `"outside"`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("nix", "--extra-experimental-features", "nix-command flakes", "--store", t.TempDir(),
		"eval", "--raw", tree.FlakeRef(dir)+`#nixosConfigurations."web1"`)
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), "unsupported parameter 'dir'") {
		t.Skip("needs a nix that knows path: with ?dir=, as 2.26 does")
	}
	if err != nil || !strings.HasSuffix(string(out), "outside") {
		t.Errorf("nix eval of %q: %v, %s", tree.FlakeRef(dir), err, out)
	}
}

func TestTreeFlakeRef(t *testing.T) {
	for sub, want := range map[string]string{
		".":         "/mnt/etc/nixos",
		"nixos":     "path:/mnt/etc/nixos?dir=nixos",
		"a b/c#d?e": "path:/mnt/etc/nixos?dir=a%20b/c%23d%3Fe",
	} {
		if got := (&Tree{Sub: sub}).FlakeRef("/mnt/etc/nixos"); got != want {
			t.Errorf("sub %q: got %q, want %q", sub, got, want)
		}
	}
}
