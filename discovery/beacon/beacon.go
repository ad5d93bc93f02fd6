// Package beacon defines what a booted installer says about itself.
//
// The agent writes a [Claim] into mDNS TXT records and the controller reads it
// back. A claim is unauthenticated: it helps a person to choose a machine and
// is never a reason to trust one.
package beacon

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Service is the DNS-SD service type that installers announce (RFC 6763 section 7).
const Service = "_nixctl._tcp"

// Bounds on what [Parse] accepts. A TXT string holds at most 255 bytes (RFC 6763
// section 6.1).
const (
	maxRecords = 32
	maxRecord  = 255
)

// ErrMalformed is returned by [Parse] for records that are not a claim.
var ErrMalformed = errors.New("malformed claim")

// A Claim is what an installer says about itself. Every field but Fingerprint
// may be empty.
type Claim struct {
	Version      string `json:"version,omitempty"`      // of the agent, such as "0.1.0"
	Name         string `json:"name,omitempty"`         // host name, from the injected key bundle
	Fingerprint  string `json:"fingerprint,omitempty"`  // of the SSH host key, as "SHA256:..."
	Architecture string `json:"architecture,omitempty"` // as Nix names it, such as "x86_64-linux"
	Firmware     string `json:"firmware,omitempty"`     // "uefi" or "bios"
	MAC          string `json:"mac,omitempty"`          // of the network card that is announced on
	ID           string `json:"id,omitempty"`           // differs between machines and between boots
	Serial       string `json:"serial,omitempty"`       // of the machine, as its firmware tells
}

// fields pairs the TXT keys with the fields of c, in the order they are written.
func (c *Claim) fields() []struct {
	key   string
	value *string
} {
	return []struct {
		key   string
		value *string
	}{
		{"v", &c.Version}, {"name", &c.Name}, {"key", &c.Fingerprint}, {"arch", &c.Architecture},
		{"fw", &c.Firmware}, {"mac", &c.MAC}, {"id", &c.ID}, {"serial", &c.Serial},
	}
}

// TXT encodes c as DNS TXT strings, in a fixed order and without empty fields.
// A value that does not fit its record is cut between two characters.
func (c Claim) TXT() []string {
	var txt []string
	for _, f := range c.fields() {
		if *f.value == "" {
			continue
		}
		txt = append(txt, cut(f.key+"="+*f.value))
	}
	return txt
}

// cut shortens s to what fits a record.
func cut(s string) string {
	if len(s) <= maxRecord {
		return s
	}
	n := maxRecord
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// Parse decodes TXT strings written by [Claim.TXT]. Unknown keys are ignored, so
// that an old controller can read a newer agent; the first of two equal keys
// counts (RFC 6763 section 6.4). Text that a terminal would not print is refused.
func Parse(txt []string) (Claim, error) {
	if len(txt) > maxRecords {
		return Claim{}, fmt.Errorf("%w: %d records, want at most %d", ErrMalformed, len(txt), maxRecords)
	}
	values := make(map[string]string)
	for _, s := range txt {
		k, v, ok := strings.Cut(s, "=")
		if !ok || len(s) > maxRecord {
			continue
		}
		if strings.ContainsFunc(v, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) {
			return Claim{}, fmt.Errorf("%w: unprintable text in %q", ErrMalformed, s)
		}
		if _, ok := values[k]; !ok {
			values[k] = v
		}
	}
	var c Claim
	for _, f := range c.fields() {
		*f.value = values[f.key]
	}
	if c.Fingerprint == "" {
		return Claim{}, fmt.Errorf("%w: no key", ErrMalformed)
	}
	return c, nil
}
