package nix

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// ErrUnquotable is returned for text that no Nix string can hold: a NUL ends it
// early, and later releases of Nix refuse what is not UTF-8.
var ErrUnquotable = errors.New("not possible in a nix string")

// Every $ is escaped, not only that of ${, because $${ means something else again.
// A bare carriage return would be read as a line feed.
// See https://nix.dev/manual/nix/stable/language/string-literals.
var quoter = strings.NewReplacer(
	`\`, `\\`, `"`, `\"`, `$`, `\$`, "\n", `\n`, "\r", `\r`, "\t", `\t`)

// Quote returns s as a string of the Nix language, with its quotation marks. The
// error wraps [ErrUnquotable] if s holds a NUL or is not UTF-8.
func Quote(s string) (string, error) {
	if strings.ContainsRune(s, 0) || !utf8.ValidString(s) {
		return "", fmt.Errorf("quote %q: %w", s, ErrUnquotable)
	}
	return `"` + quoter.Replace(s) + `"`, nil
}

var identifier = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_'-]*$`)

// keywords are not identifiers, although "or" may stand in some places.
var keywords = map[string]bool{
	"assert": true, "else": true, "if": true, "in": true, "inherit": true,
	"let": true, "or": true, "rec": true, "then": true, "with": true,
}

// QuoteAttr returns s as an attribute name of the Nix language: as it is if that
// is an identifier, quoted otherwise.
func QuoteAttr(s string) (string, error) {
	if identifier.MatchString(s) && !keywords[s] {
		return s, nil
	}
	return Quote(s)
}

// fragment returns the name of a host as it stands after the # of a flake reference.
// Nix percent-decodes that part and refuses much of what it finds bare.
func fragment(name string) string { return escape(name, "-._") }

// escapePath returns a path as it stands in a flake reference that is a URL.
func escapePath(path string) string { return escape(path, "-._/") }

// escape percent-encodes all of s but letters, digits and what is named plain. Go's
// own functions know no part of a URL that is as strict.
func escape(s, plain string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(plain, c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
