package target

import (
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func split(chunks ...string) (lines []string) {
	s := splitter{line: func(l string) { lines = append(lines, l) }}
	for _, c := range chunks {
		s.Write([]byte(c))
	}
	s.end()
	return lines
}

func TestSplitter(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want []string
	}{
		{"a\nb\n", []string{"a", "b"}},
		{"a\n\nb", []string{"a", "", "b"}},
		{"a\r\n\r\nb\r\n", []string{"a", "", "b"}},
		{"10%\r50%\r100%\r\n", []string{"10%", "50%", "100%"}},
		{"\r\r\ra\n", []string{"a"}},
		{"\x1b[1;31mred\x1b[0m\x1b]0;title\x07 \x1b(Btext\x1b", []string{"red text"}},
		{"tab\tbell\x07 del\x7f c1\u009b right\u202eleft caf\u00e9", []string{"tab\tbell del c1 rightleft caf\u00e9"}},
		{"bad\xff\xfeutf8", []string{"bad?utf8"}},
		{strings.Repeat("x", maxLine+10), []string{strings.Repeat("x", maxLine-utf8.UTFMax), strings.Repeat("x", 10+utf8.UTFMax)}},
		{"", nil},
	} {
		if got := split(tt.in); !slices.Equal(got, tt.want) {
			t.Errorf("%.40q: %.80q, want %.80q", tt.in, got, tt.want)
		}
	}
}

func FuzzSplitter(f *testing.F) {
	f.Add("a\r\nb\x1b[0m\xff\n", 3)
	f.Add("50%\r\n\u00e9\u202e\x1b]0;t\x07", 7)
	f.Fuzz(func(t *testing.T, in string, cut int) {
		lines := split(in)
		if cut >= 0 && cut <= len(in) {
			if other := split(in[:cut], in[cut:]); !slices.Equal(lines, other) {
				t.Errorf("%q cut at %d: %q, in one piece %q", in, cut, other, lines)
			}
		}
		for _, l := range lines {
			if len(l) > maxLine || !utf8.ValidString(l) || strings.IndexFunc(l, func(r rune) bool { return r != '\t' && !unicode.IsGraphic(r) }) >= 0 {
				t.Errorf("%q has an unclean line %q", in, l)
			}
		}
	})
}
