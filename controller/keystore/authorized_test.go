package keystore

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAuthorizedKeys(t *testing.T) {
	s := open(t)
	if keys, err := s.AuthorizedKeys(); len(keys) != 0 || err != nil {
		t.Fatalf("empty store: %v, %v", keys, err)
	}
	// Any ed25519 keys will do.
	line := func(name string) string { return AuthorizedKey{Key: create(t, s, name).Key}.String() }
	alice, bob, carol, dave := line("alice"), line("bob"), line("carol"), line("dave")
	at := func(path ...string) string { return filepath.Join(append([]string{s.String()}, path...)...) }
	write(t, at("authorized_keys"), "# who\n\nfrom=\"10.0.0.0/8, ::1\",no-pty "+alice+" alice@laptop work\nssh-ed25519 AAAA broken\n"+bob+"\n", 0o644)
	write(t, at("users", "alice", "id_ed25519.pub"), alice+" again", 0o644)
	write(t, at("users", "carol", "id_ed25519.pub"), carol+" carol", 0o644)
	write(t, at("users", "carol", "id_ed25519"), "private", 0o600)
	write(t, at("home", "dave", "id_work.pub"), dave, 0o644)
	keys, err := s.AuthorizedKeys()
	wantError(t, err, "authorized_keys:4: not a public key")
	var got []string
	for _, k := range keys {
		got = append(got, k.String())
	}
	want := []string{`from="10.0.0.0/8, ::1",no-pty ` + alice + " alice@laptop work", bob, carol + " carol", dave}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if want := at("users", "carol", "id_ed25519.pub"); keys[2].File != want {
		t.Errorf("got file %q, want %q", keys[2].File, want)
	}
}

func TestUserKeys(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "odd [name]*")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if keys, err := UserKeys(dir); len(keys) != 0 || err != nil {
		t.Errorf("got %v, %v", keys, err)
	}
	tool(t, "ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-C", "me", "-f", filepath.Join(dir, "id_ecdsa"))
	keys, err := UserKeys(dir)
	if err != nil || len(keys) != 1 || keys[0].Comment != "me" || keys[0].Key.Type() != "ecdsa-sha2-nistp256" {
		t.Errorf("got %v, %v", keys, err)
	}
}

func FuzzParseKeys(f *testing.F) {
	f.Add([]byte("# c\nno-pty ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl a b\n"))
	f.Add([]byte("ssh-ed25519 AAAA\n\r\n\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, _ := parseKeys("f", b)
		for _, k := range keys {
			if strings.ContainsAny(k.String(), "\n") {
				t.Errorf("%q is more than a line", k.String())
			}
			again, err := parseKeys("f", []byte(k.String()))
			if err != nil || len(again) != 1 || again[0].String() != k.String() {
				t.Errorf("%q reads back as %v, %v", k.String(), again, err)
			}
		}
	})
}
