package controller

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/nixctl/nixctl/discovery/beacon"
	"github.com/nixctl/nixctl/discovery/survey"
	"github.com/nixctl/nixctl/discovery/verify"
	"github.com/nixctl/nixctl/install"
	"github.com/nixctl/nixctl/install/disk"
	"golang.org/x/crypto/ssh"
)

func TestParseSize(t *testing.T) {
	tests := []struct {
		in   string
		want int64
	}{
		{"512M", 512 << 20}, {"4G", 4 << 30}, {"4g", 4 << 30}, {"4GiB", 4 << 30}, {"1T", 1 << 40}, {"64K", 64 << 10},
		{"", 0}, {"4", 0}, {"G", 0}, {"-4G", 0}, {"0G", 0}, {"4.5G", 0}, {"99999999999T", 0}, {"B", 0}, {"iB", 0},
	}
	for _, tt := range tests {
		got, err := parseSize(tt.in)
		if got != tt.want || (err == nil) != (tt.want != 0) || err != nil && !errors.Is(err, errUsage) {
			t.Errorf("%q: %d, %v; want %d", tt.in, got, err, tt.want)
		}
	}
}

func TestParseOwner(t *testing.T) {
	for in, want := range map[string]ownerRule{
		"/home/web=1000:100":   {"/home/web", 1000, 100},
		"/home/web/=1000:100":  {"/home/web", 1000, 100},
		"home=1:1":             {},
		"/home=web:users":      {},
		"/home":                {},
		"/home=1":              {},
		"/home=-1:1":           {},
		"/home=99999999999:10": {},
	} {
		got, err := parseOwner(in)
		if got != want || (err == nil) != (want != ownerRule{}) {
			t.Errorf("%q: %+v, %v; want %+v", in, got, err, want)
		}
	}
	if r := (ownerRule{path: "/home/web"}); !r.covers("/home/web/x") || r.covers("/home/webmaster") {
		t.Error("a rule must cover what is below its path and nothing beside it")
	}
}

// machine is one that a survey might tell of. Only the zero Installer can be made
// here; who it is does not matter to what is tested.
func stranger(t *testing.T, mac, serial, claimed string) survey.Machine {
	t.Helper()
	pub, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return survey.Machine{MAC: mac, Key: key, Addresses: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.9:22")},
		Claim: beacon.Claim{Name: claimed, Serial: serial, Fingerprint: "SHA256:x"}}
}

// TestStrangersAreNotChosen: whatever a machine claims, it is not taken for one that
// proved it.
func TestStrangersAreNotChosen(t *testing.T) {
	m := stranger(t, "52:54:00:00:00:01", "S1", "web1")
	tests := []struct {
		name, on string
		want     error
	}{
		{"web1", "", verify.ErrKeyMismatch},
		{"web1", "52:54:00:00:00:01", verify.ErrKeyMismatch},
		{"web1", "serial:S1", verify.ErrKeyMismatch},
		{"db1", "", errNotFound},
		{"db1", "52:54:00:00:00:02", errNotFound},
	}
	for _, tt := range tests {
		_, err := wanted{name: tt.name, on: tt.on, identity: tt.name}.choose(map[int]survey.Machine{1: m})
		if !errors.Is(err, tt.want) {
			t.Errorf("%q on %q: %v, want %v", tt.name, tt.on, err, tt.want)
		}
		if tt.want == verify.ErrKeyMismatch && !strings.Contains(err.Error(), ssh.FingerprintSHA256(m.Key)) {
			t.Errorf("%q does not tell the fingerprint", err)
		}
	}
}

func TestAnswers(t *testing.T) {
	m := survey.Machine{MAC: "52:54:00:00:00:01", Claim: beacon.Claim{MAC: "52:54:00:00:00:02", Serial: "S1"}}
	for on, want := range map[string]bool{
		"52:54:00:00:00:01": true,
		"52-54-00-00-00-01": true,
		"52:54:00:00:00:02": false, // the link layer is believed before a claim
		"serial:S1":         true,
		"serial:S2":         false,
		"serial:":           false,
		"":                  false,
		"web1":              false,
	} {
		if got := answers(m, on); got != want {
			t.Errorf("%q: %v, want %v", on, got, want)
		}
	}
}

func TestExitCodes(t *testing.T) {
	for code, err := range map[int]error{
		exitOK: nil, exitUsage: errUsage, exitNotFound: errNotFound, exitNotProved: verify.ErrKeyMismatch,
		exitNoBoot: errNoBoot, exitLocked: install.ErrLocked, exitFailed: errors.New("x"), 77: &remoteError{77},
		exitStep:   &install.StepError{Err: errors.New("x")},
		exitDisk:   &install.StepError{Err: fmt.Errorf("%w: gone", disk.ErrRefused)}, // refused by the script, right before it writes
		exitSignal: fmt.Errorf("%w: %w", context.Canceled, &remoteError{255}),
	} {
		if got := exitCode(err); got != code {
			t.Errorf("%v: exit code %d, want %d", err, got, code)
		}
	}
}
