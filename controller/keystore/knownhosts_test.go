package keystore

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
)

func TestWriteKnownHosts(t *testing.T) {
	s := open(t)
	create(t, s, "web1")
	create(t, s, "db1")
	write(t, s.hostFile("bad", hostKey+".pub"), "bad", 0o644)
	var b strings.Builder
	wantError(t, s.WriteKnownHosts(&b), `host "bad"`)
	path := filepath.Join(t.TempDir(), "known_hosts")
	write(t, path, b.String(), 0o600)
	for _, name := range []string{"web1", "db1"} {
		h, err := s.Host(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := tool(t, "ssh-keygen", "-F", name, "-f", path, "-l"); !strings.Contains(got, ssh.FingerprintSHA256(h.Key)) {
			t.Errorf("ssh-keygen -F %s: %q", name, got)
		}
	}
}

// knows has OpenSSH look up name and compares the key.
func knows(t *testing.T, path, name string, key ssh.PublicKey) {
	t.Helper()
	if got := tool(t, "ssh-keygen", "-F", name, "-f", path, "-l"); strings.Count(got, ssh.FingerprintSHA256(key)) != 1 {
		t.Errorf("ssh-keygen -F %s: %q, want %s once", name, got, ssh.FingerprintSHA256(key))
	}
}

func TestAppendKnownHosts(t *testing.T) {
	key := create(t, open(t), "web1").Key
	path := filepath.Join(t.TempDir(), "state", "known_hosts")
	add := func(names ...string) {
		t.Helper()
		if err := AppendKnownHosts(path, names, key); err != nil {
			t.Fatal(err)
		}
	}
	content := func() string {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	add("web1", "10.77.0.5", "fe80::1", "web1.local:2222", "[::1]:23")
	for _, name := range []string{"web1", "10.77.0.5", "fe80::1", "[web1.local]:2222", "[::1]:23"} {
		knows(t, path, name, key)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("got mode %v, %v, want 0600", info.Mode(), err)
	}
	before := content()
	add("web1", "fe80::1")
	if got := content(); got != before {
		t.Errorf("known names were written again: %q", got)
	}
	// The user's file: hashed, a comment, no line feed at its end.
	tool(t, "ssh-keygen", "-q", "-H", "-f", path)
	hashed := strings.TrimSuffix(content(), "\n") + "\n# mine"
	write(t, path, hashed, 0o644)
	add("web1", "[web1.local]:2222")
	if got := content(); got != hashed {
		t.Errorf("hashed names were not recognised: %q", got)
	}
	add("web1", "web2")
	if got, want := content(), hashed+"\nweb2 "; !strings.HasPrefix(got, want) || strings.Count(got, "\n") != strings.Count(hashed, "\n")+2 {
		t.Errorf("got %q, want it to begin with %q and go on for one line", got, want)
	}
	knows(t, path, "web2", key)
}

func TestAppendKnownHostsRefuses(t *testing.T) {
	s := open(t)
	key, other := create(t, s, "a").Key, create(t, s, "b").Key
	blob := AuthorizedKey{Key: other}.String()
	mine := AuthorizedKey{Key: key}.String()
	for name, c := range map[string]struct{ content, name, why string }{
		"other key":   {"# first\nx,web1 " + blob, "web1", `known_hosts:2: if the machine was meant to get a new one, run: ssh-keygen -R "web1"`},
		"pattern":     {"*.example.org,!b.example.org " + blob, "a.example.org", "known_hosts:1"},
		"revoked":     {"@revoked * " + mine, "web1", "revoked"},
		"broken":      {"ok " + blob + "\nweb1 what", "web1", "known_hosts:2"},
		"bad name":    {"", "web1,*", "not a host name"},
		"empty name":  {"", "", "not a host name"},
		"two lines":   {"", "web1 x\ny", "not a host name"},
		"marker":      {"", "@revoked", "not a host name"},
		"hashed name": {"", "|1|a|b", "not a host name"},
	} {
		path := filepath.Join(t.TempDir(), "known_hosts")
		write(t, path, c.content, 0o600)
		err := AppendKnownHosts(path, []string{"new", c.name}, key)
		wantError(t, err, c.why)
		if strings.Contains(c.why, "known_hosts:") && name != "broken" && !errors.Is(err, ErrOtherKey) {
			t.Errorf("%s: got %v, want ErrOtherKey", name, err)
		}
		if b, err := os.ReadFile(path); string(b) != c.content {
			t.Errorf("%s: the file was changed to %q, %v", name, b, err)
		}
	}
}

// TestAppendKnownHostsOtherKind: an RSA key of the same machine is no contradiction.
func TestAppendKnownHostsOtherKind(t *testing.T) {
	key := create(t, open(t), "web1").Key
	rsa := filepath.Join(t.TempDir(), "rsa")
	tool(t, "ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", rsa)
	b, err := os.ReadFile(rsa + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "known_hosts")
	write(t, path, "web1 "+string(b), 0o600)
	if err := AppendKnownHosts(path, []string{"web1"}, key); err != nil {
		t.Fatal(err)
	}
	knows(t, path, "web1", key)
}

// TestAppendKnownHostsAtOnce: many runs that end together lose nothing and write
// nothing twice.
func TestAppendKnownHostsAtOnce(t *testing.T) {
	key := create(t, open(t), "web1").Key
	path := filepath.Join(t.TempDir(), "known_hosts")
	names := []string{"a", "b", "c", "d"}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if err := AppendKnownHosts(path, []string{names[i%4]}, key); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, name := range names {
		knows(t, path, name, key)
	}
}
