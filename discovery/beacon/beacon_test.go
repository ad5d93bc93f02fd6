package beacon_test

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/nixctl/nixctl/discovery/beacon"
)

const fingerprint = "SHA256:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"

var full = beacon.Claim{
	Version: "0.1.0", Name: "web1", Fingerprint: fingerprint, Architecture: "x86_64-linux",
	Firmware: "uefi", MAC: "52:54:00:12:34:56", ID: "0123456789abcdef", Serial: "ABC 123",
}

func TestTXT(t *testing.T) {
	tests := []struct {
		name  string
		claim beacon.Claim
		want  []string
	}{
		{"empty", beacon.Claim{}, nil},
		{"key alone", beacon.Claim{Fingerprint: fingerprint}, []string{"key=" + fingerprint}},
		{"full", full, []string{
			"v=0.1.0", "name=web1", "key=" + fingerprint, "arch=x86_64-linux",
			"fw=uefi", "mac=52:54:00:12:34:56", "id=0123456789abcdef", "serial=ABC 123",
		}},
		{"too long", beacon.Claim{Name: strings.Repeat("n", 300)}, []string{"name=" + strings.Repeat("n", 250)}},
		{"too long, cut within a character", beacon.Claim{Name: strings.Repeat("n", 248) + "€€"}, []string{"name=" + strings.Repeat("n", 248)}},
		{"too long, cut after a character", beacon.Claim{Name: strings.Repeat("n", 247) + "€€"}, []string{"name=" + strings.Repeat("n", 247) + "€"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.claim.TXT(); !slices.Equal(got, tt.want) {
				t.Errorf("TXT() = %q, want %q", got, tt.want)
			}
		})
	}
}

// What TXT cuts is read back all the same.
func TestCutIsRead(t *testing.T) {
	for _, c := range []string{"n", "ü", "€", "\U0001F600"} {
		for pad := range 4 {
			long := beacon.Claim{Fingerprint: fingerprint, Name: strings.Repeat("n", pad) + strings.Repeat(c, 300)}
			got, err := beacon.Parse(long.TXT())
			if err != nil || got.Name == "" || !strings.HasPrefix(long.Name, got.Name) || got.Fingerprint != fingerprint {
				t.Errorf("%d and %q: Parse(TXT) = %+v, %v", pad, c, got, err)
			}
		}
	}
}

func TestParse(t *testing.T) {
	key := "key=" + fingerprint
	only := beacon.Claim{Fingerprint: fingerprint}
	named := beacon.Claim{Fingerprint: fingerprint, Name: "a"}
	tests := []struct {
		name string
		txt  []string
		want beacon.Claim
		err  error
	}{
		{"full", full.TXT(), full, nil},
		{"key alone", []string{key}, only, nil},
		{"unknown keys", []string{"colour=red", key, "flag", "="}, only, nil},
		{"first of two counts", []string{key, "name=a", "name=b"}, named, nil},
		{"empty value is a value", []string{key, "name=", "name=b"}, only, nil},
		{"record too long", []string{key, "name=a" + strings.Repeat("b", 300)}, only, nil},
		{"no records", nil, beacon.Claim{}, beacon.ErrMalformed},
		{"no key", []string{"name=a"}, beacon.Claim{}, beacon.ErrMalformed},
		{"empty key", []string{"key="}, beacon.Claim{}, beacon.ErrMalformed},
		{"escape sequence", []string{key, "name=\x1b[2J"}, beacon.Claim{}, beacon.ErrMalformed},
		{"line break", []string{key, "name=a\nb"}, beacon.Claim{}, beacon.ErrMalformed},
		{"right-to-left override", []string{key, "name=a\u202eb"}, beacon.Claim{}, beacon.ErrMalformed},
		{"not UTF-8", []string{key, "name=\xff"}, beacon.Claim{}, beacon.ErrMalformed},
		{"too many records", slices.Repeat([]string{key}, 33), beacon.Claim{}, beacon.ErrMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := beacon.Parse(tt.txt)
			if got != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("Parse(%q) = %+v, %v; want %+v, %v", tt.txt, got, err, tt.want, tt.err)
			}
		})
	}
}

// FuzzParse checks that what Parse accepts is fit for a terminal and survives a
// round trip.
func FuzzParse(f *testing.F) {
	f.Add(strings.Join(full.TXT(), "\n"))
	f.Add("key=" + fingerprint + "\nname=\x1b[2J")
	f.Add("key=a\nkey=b\n=\nname")
	f.Fuzz(func(t *testing.T, joined string) {
		claim, err := beacon.Parse(strings.Split(joined, "\n"))
		if err != nil {
			if !errors.Is(err, beacon.ErrMalformed) || claim != (beacon.Claim{}) {
				t.Errorf("Parse(%q) = %+v, %v", joined, claim, err)
			}
			return
		}
		for _, v := range reflect.ValueOf(claim).Fields() {
			if s := v.String(); len(s) > 255 || !utf8.ValidString(s) || strings.ContainsAny(s, "\x00\x07\x1b\r\n") {
				t.Errorf("Parse(%q) let %q through", joined, s)
			}
		}
		if again, err := beacon.Parse(claim.TXT()); err != nil || again != claim {
			t.Errorf("Parse(TXT(%+v)) = %+v, %v", claim, again, err)
		}
	})
}
