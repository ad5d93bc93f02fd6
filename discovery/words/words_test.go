package words_test

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"regexp"
	"strings"
	"testing"

	"github.com/nixctl/nixctl/discovery/words"
)

//go:embed english.txt
var english string

// The vectors were computed with Python's hashlib.pbkdf2_hmac.
func TestOf(t *testing.T) {
	tests := []struct{ name, fingerprint, want string }{
		{"zeros", "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "discover-live-become-reflect"},
		{"counting", "SHA256:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", "best-rail-breeze-drastic"},
		{"ones", "SHA256://////////////////////////////////////////8", "lift-bulb-identify-domain"},
		{"empty", "", ""},
		{"no prefix", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", ""},
		{"other prefix", "MD5:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", ""},
		{"padded", "SHA256:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", ""},
		{"short", "SHA256:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg", ""},
		{"long", "SHA256:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8A", ""},
		{"unused bits set", "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB", ""},
		{"line break", "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n", ""},
		{"not base64", "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA*", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := words.Of(tt.fingerprint); got != tt.want {
				t.Errorf("Of(%q) = %q, want %q", tt.fingerprint, got, tt.want)
			}
		})
	}
}

// TestList compares the list with the published one by its well-known hash,
// since one changed word would change what people are asked to compare.
func TestList(t *testing.T) {
	const want = "2f5eed53a4727b4bf8880d8f3f199efc90e58503646d9ff8eff3a2ed3b24dbda"
	sum := sha256.Sum256([]byte(english))
	if got := hex.EncodeToString(sum[:]); got != want {
		t.Errorf("english.txt has SHA-256 %s, want %s", got, want)
	}
	if n := len(strings.Fields(english)); n != 2048 {
		t.Errorf("english.txt has %d words, want 2048", n)
	}
}

// FuzzOf checks that no input panics and that what comes back is words or nothing.
func FuzzOf(f *testing.F) {
	f.Add("SHA256:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8")
	f.Add("SHA256:")
	shape := regexp.MustCompile(`^([a-z]{3,8}(-[a-z]{3,8}){3})?$`)
	f.Fuzz(func(t *testing.T, fingerprint string) {
		if got := words.Of(fingerprint); !shape.MatchString(got) {
			t.Errorf("Of(%q) = %q", fingerprint, got)
		}
	})
}
