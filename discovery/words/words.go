// Package words turns the fingerprint of an SSH host key into four words that
// people can compare between two screens.
//
// The words stand for 44 bits. That is enough to tell machines apart and too
// little to withstand a search: an attacker may make keys until one shows the
// wanted words. So the words are derived by a deliberately slow function, which
// makes each try cost [iterations] rounds: 2^44 tries of 2^15 rounds are about
// 2^60 SHA-256 blocks, years of work for a rack of graphics cards. Words are for
// the eye; what a program trusts is the whole key.
package words

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/binary"
	"strings"
)

// The parameters of the derivation. They must never change: the words on the
// screen of an old installer are compared with those of a new workstation.
const (
	salt       = "nixctl words v1"
	iterations = 1 << 15 // some 10 ms
	count      = 4
	bits       = 11 // one of 2048 words
)

// english is the English word list of BIP-0039, one word a line: 2048 words, no
// two of which share their first four letters.
//
//go:embed english.txt
var english string

var list = strings.Fields(english)

// Of returns the words of a fingerprint as ssh-keygen prints it, "SHA256:" and 43
// characters of base64: four lower-case words joined by "-". It returns "" for
// anything else.
//
// It takes some 10 ms on purpose, so callers remember what they got.
func Of(fingerprint string) string {
	sum, ok := decode(fingerprint)
	if !ok {
		return ""
	}
	key, err := pbkdf2.Key(sha256.New, string(sum), []byte(salt), iterations, 8)
	if err != nil {
		return "" // only where FIPS 140 mode refuses the parameters
	}
	n := binary.BigEndian.Uint64(key)
	words := make([]string, count)
	for i := range words {
		words[i] = list[n>>(64-bits)]
		n <<= bits
	}
	return strings.Join(words, "-")
}

// decode returns the hash in a fingerprint.
func decode(fingerprint string) ([]byte, bool) {
	b64, ok := strings.CutPrefix(fingerprint, "SHA256:")
	if !ok || len(b64) != base64.RawStdEncoding.EncodedLen(sha256.Size) || strings.ContainsAny(b64, "\r\n") {
		return nil, false
	}
	sum, err := base64.RawStdEncoding.Strict().DecodeString(b64)
	return sum, err == nil
}
