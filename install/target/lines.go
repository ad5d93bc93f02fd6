package target

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxLine is how many bytes of a line are passed on in one piece.
const maxLine = 64 << 10

// A splitter is a writer that calls line for each line, cleaned of what must not
// reach a terminal or a log. Line feeds and carriage returns end a line, so that
// each state of a progress display is one; "\r\n" ends one line.
type splitter struct {
	line func(string)

	part     []byte
	returned bool // a carriage return has just ended a line
}

func (s *splitter) Write(p []byte) (int, error) {
	for _, b := range p {
		s.add(b)
	}
	return len(p), nil
}

func (s *splitter) add(b byte) {
	switch {
	case b == '\n' && s.returned:
		s.returned = false
	case b == '\n':
		s.emit()
	case b == '\r':
		if len(s.part) > 0 {
			s.emit()
			s.returned = true
		}
	default:
		s.returned = false
		if len(s.part) >= maxLine-utf8.UTFMax && utf8.RuneStart(b) || len(s.part) == maxLine {
			s.emit()
		}
		s.part = append(s.part, b)
	}
}

// end passes on what came after the last line end.
func (s *splitter) end() {
	if len(s.part) > 0 {
		s.emit()
	}
}

func (s *splitter) emit() {
	l := clean(string(s.part))
	s.part = s.part[:0]
	s.line(l)
}

// escapes are terminal control sequences, ECMA-48 sections 5.3 to 5.6.
var escapes = regexp.MustCompile(`\x1b(?:\[[0-?]*[ -/]*[@-~]?|[\]P^_X][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~]?)`)

// clean removes control sequences and every character that is not graphic, such as
// control and text direction characters, but keeps tabs.
func clean(l string) string {
	l = escapes.ReplaceAllString(strings.ToValidUTF8(l, "?"), "")
	return strings.Map(func(r rune) rune {
		if r == '\t' || unicode.IsGraphic(r) {
			return r
		}
		return -1
	}, l)
}
