package terminal

import (
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

func TestSanitize(t *testing.T) {
	for in, want := range map[string]string{
		"web1 (QEMU) ü 日本 😀":      "web1 (QEMU) ü 日本 😀",
		"a\tb\r\nc\u00a0d\u2028e": "a b  c d e",
		"\x1b[2J\x1b]0;title\a":   "�[2J�]0;title�",
		"\u009b31m":               "�31m",
		"we\u200bb1":              "we�b1",
		"\u202egpj.exe\u202c":     "�gpj.exe�",
		"\u2066x\u2069\ufeff":     "�x��",
		"\x00\x7f\xff":            "���",
	} {
		if got := Sanitize(in); got != want {
			t.Errorf("Sanitize(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzSanitize(f *testing.F) {
	f.Add("\x1b[31m\u202e\xff", 3)
	f.Add(Paint(Red, "日本")+"x", 2)
	f.Fuzz(func(t *testing.T, s string, width int) {
		safe := Sanitize(s)
		if i := strings.IndexFunc(safe, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 || !utf8.ValidString(safe) {
			t.Errorf("Sanitize(%q) = %q", s, safe)
		}
		if Sanitize(safe) != safe {
			t.Errorf("Sanitize(%q) is not the end of it", s)
		}
		shown := painted.ReplaceAllString(Screen{Colour: true}.clean(s), "")
		if shown != (Screen{}).clean(s) || strings.ContainsFunc(shown, unicode.IsControl) {
			t.Errorf("clean(%q) lets %q through", s, shown)
		}
		if got := Cut(s, width); width > 0 && Columns(got) > width {
			t.Errorf("Cut(%q, %d) = %q, %d columns wide", s, width, got, Columns(got))
		}
	})
}

func TestCut(t *testing.T) {
	red := Paint(Red, "abcdef")
	for _, c := range []struct {
		in    string
		width int
		want  string
	}{
		{"abcdef", 0, "abcdef"},
		{"abcdef", 6, "abcdef"},
		{"abcdef", 5, "abcd…"},
		{"abcdef", 1, "…"},
		{"日本語", 6, "日本語"},
		{"日本語", 5, "日本…"},
		{"日本語", 4, "日…"},
		{red + "gh", 8, red + "gh"},
		{red + "gh", 7, red + "…"},
		{red + "gh", 3, "\x1b[31mab…\x1b[0m"},
	} {
		if got := Cut(c.in, c.width); got != c.want {
			t.Errorf("Cut(%q, %d) = %q, want %q", c.in, c.width, got, c.want)
		}
	}
}

func TestPaint(t *testing.T) {
	if got, want := Paint(Bold, "a\x1b[31mb"), "\x1b[1ma�[31mb\x1b[0m"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := Paint(Normal, "a") + Paint(Red, ""); got != "a" {
		t.Errorf("got %q, want no style", got)
	}
}

func TestBytes(t *testing.T) {
	for in, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 10 << 10: "10 KiB", 1023 << 10: "1023 KiB",
		1<<20 - 1: "1.0 MiB", 37 << 20: "37 MiB", 5 << 30: "5.0 GiB", 1 << 62: "4.0 EiB", 1<<63 - 1: "8.0 EiB",
	} {
		if got := Bytes(in); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", in, got, want)
		}
	}
}

func TestDuration(t *testing.T) {
	for in, want := range map[time.Duration]string{
		-time.Second: "0 ms", 0: "0 ms", 320 * time.Millisecond: "320 ms", 999_900 * time.Microsecond: "999 ms",
		time.Second: "1.0 s", 7140 * time.Millisecond: "7.1 s", 9960 * time.Millisecond: "10 s", 59400 * time.Millisecond: "59 s",
		59600 * time.Millisecond: "1 min 00 s", 65 * time.Second: "1 min 05 s", time.Hour - time.Millisecond: "1 h 00 min",
		26*time.Hour + 3*time.Minute: "26 h 03 min",
	} {
		if got := Duration(in); got != want {
			t.Errorf("Duration(%d) = %q, want %q", in, got, want)
		}
	}
}
