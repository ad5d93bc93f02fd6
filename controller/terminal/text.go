package terminal

import (
	"iter"
	"regexp"
	"strings"
	"unicode"

	"github.com/mattn/go-runewidth"
)

// A Style is how a piece of text looks on a terminal.
type Style string

// The styles, as parameters of SGR (ECMA-48, 8.3.117). Colours are of the eight that
// every terminal has and that its user may have adapted to their eyes.
const (
	Normal Style = ""
	Bold   Style = "1"
	Dim    Style = "2"
	Red    Style = "31"
	Green  Style = "32"
	Yellow Style = "33"
)

// Paint returns text in the style, with all that is in it sanitized.
func Paint(style Style, text string) string {
	text = Sanitize(text)
	if style == Normal || text == "" {
		return text
	}
	return "\x1b[" + string(style) + "m" + text + "\x1b[0m"
}

// painted matches what Paint writes around text, and nothing else of ECMA-48: text
// from outside can at worst be colourful.
var painted = regexp.MustCompile(`\x1b\[(0|1|2|31|32|33)m`)

// Sanitize makes text from outside fit to be shown in one line: blanks of all sorts
// become spaces, and whatever is not visible (escape sequences, control characters,
// marks that reverse or hide text, broken UTF-8) becomes U+FFFD. It is not dropped,
// because a name that hides something must not look like the one without.
func Sanitize(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsPrint(r):
			return r
		case unicode.IsSpace(r):
			return ' '
		}
		return unicode.ReplacementChar
	}, s)
}

// clean sanitizes all of line but the styles in it, which stay where s shows them.
func (s Screen) clean(line string) string {
	var b strings.Builder
	for piece, isStyle := range pieces(line) {
		switch {
		case !isStyle:
			b.WriteString(Sanitize(piece))
		case s.Colour:
			b.WriteString(piece)
		}
	}
	return b.String()
}

// glyphs measures text alike in every locale. Few terminals still draw "…" and its like
// two columns wide in those of East Asia, as the locale alone would have it.
var glyphs = &runewidth.Condition{StrictEmojiNeutral: true}

// Columns returns how wide s is on a terminal. Styles take no room.
func Columns(s string) (n int) {
	for piece, isStyle := range pieces(s) {
		if !isStyle {
			n += glyphs.StringWidth(piece)
		}
	}
	return n
}

// Cut shortens s to a number of columns, with "…" for what is lost; 0 means as wide
// as it is. It keeps all styles, so that none reaches past its text.
func Cut(s string, columns int) string {
	if columns <= 0 || Columns(s) <= columns {
		return s
	}
	var b strings.Builder
	room, full := columns-1, false
	for piece, isStyle := range pieces(s) {
		w := glyphs.StringWidth(piece)
		switch {
		case isStyle:
			b.WriteString(piece)
		case full:
		case w > room:
			b.WriteString(glyphs.Truncate(piece, room, "") + "…")
			full = true
		default:
			b.WriteString(piece)
			room -= w
		}
	}
	return b.String()
}

// pieces yields the styles in s and the text between them.
func pieces(s string) iter.Seq2[string, bool] {
	return func(yield func(piece string, isStyle bool) bool) {
		for s != "" {
			at := painted.FindStringIndex(s)
			switch {
			case at == nil:
				yield(s, false)
				return
			case at[0] > 0 && !yield(s[:at[0]], false), !yield(s[at[0]:at[1]], true):
				return
			}
			s = s[at[1]:]
		}
	}
}
