package keystore

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// open returns a store in a new folder that New is to make.
func open(t *testing.T) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "keys"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func create(t *testing.T, s *Store, name string) Host {
	t.Helper()
	h, err := s.New(name, false)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func write(t *testing.T, path, content string, mode fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// tool runs a program of OpenSSH and returns what it prints.
func tool(t *testing.T, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(args[0]); err != nil {
		t.Skipf("needs %s", args[0])
	}
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v\n%s", args, err, out)
	}
	return string(out)
}

func wantError(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("got error %v, want one with %q", err, text)
	}
}

// TestNew has OpenSSH read what was made.
func TestNew(t *testing.T) {
	s := open(t)
	h := create(t, s, "web1")
	private := s.hostFile("web1", hostKey)
	want := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(h.Key))) + " web1"
	if got := strings.TrimSpace(tool(t, "ssh-keygen", "-y", "-f", private)); got != want {
		t.Errorf("ssh-keygen -y: %q, want %q", got, want)
	}
	if got := tool(t, "ssh-keygen", "-l", "-f", private+".pub"); !strings.Contains(got, ssh.FingerprintSHA256(h.Key)+" web1 (ED25519)") {
		t.Errorf("ssh-keygen -l: %q", got)
	}
	for path, want := range map[string]fs.FileMode{private: 0o600, private + ".pub": 0o644, filepath.Dir(private): 0o700 | fs.ModeDir, s.String(): 0o700 | fs.ModeDir} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v, want mode %v", path, info.Mode(), err, want)
		}
	}
	if files, err := os.ReadDir(filepath.Dir(private)); err != nil || len(files) != 2 {
		t.Errorf("got files %v, %v, want the two of the key", files, err)
	}
	b, err := s.PrivateKey("web1")
	if onDisk, _ := os.ReadFile(private); err != nil || string(b) != string(onDisk) {
		t.Errorf("private key: %v", err)
	}
}

// TestNewNeverOverwrites goes through every file that a host's key may consist of.
func TestNewNeverOverwrites(t *testing.T) {
	for _, suffix := range []string{"", ".age", ".gpg", ".pub"} {
		s := open(t)
		path := s.hostFile("web1", hostKey+suffix)
		write(t, path, "precious", 0o600)
		if _, err := s.New("web1", false); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), "--force") {
			t.Errorf("%q: got %v, want ErrExist and what to do", suffix, err)
		}
		if b, err := os.ReadFile(path); string(b) != "precious" {
			t.Errorf("%q: the file holds %q, %v", suffix, b, err)
		}
		h, err := s.New("web1", true)
		if err != nil {
			t.Errorf("%q: with force: %v", suffix, err)
		}
		if b, err := os.ReadFile(path + ".old"); string(b) != "precious" {
			t.Errorf("%q: the old file holds %q, %v", suffix, b, err)
		}
		if got, err := s.Host("web1"); err != nil || got.Form != Plain || ssh.FingerprintSHA256(got.Key) != ssh.FingerprintSHA256(h.Key) {
			t.Errorf("%q: got %+v, %v, want the new key", suffix, got, err)
		}
	}
}

func TestNames(t *testing.T) {
	s := open(t)
	for _, name := range []string{"", ".", "..", "../x", "a/b", "web1.example.org", "-x", "x-", "a b", "a\x00", "ä", strings.Repeat("a", 64)} {
		if _, err := s.New(name, false); err == nil {
			t.Errorf("New(%q) made a host", name)
		}
		if _, err := s.Host(name); err == nil {
			t.Errorf("Host(%q) found a host", name)
		}
	}
	if _, err := os.Stat(s.String()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something was written: %v", err)
	}
	if _, err := s.Host("web1"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "nixctl keys new web1") {
		t.Errorf("missing host: %v", err)
	}
}

// TestHosts: what is broken is named and hides nothing else.
func TestHosts(t *testing.T) {
	s := open(t)
	if hosts, err := s.Hosts(); len(hosts) != 0 || err != nil {
		t.Fatalf("empty store: %v, %v", hosts, err)
	}
	web, db := create(t, s, "web1"), create(t, s, "db1")
	pub := AuthorizedKey{Key: web.Key}.String() + "\n"
	rsa := filepath.Join(t.TempDir(), "rsa")
	tool(t, "ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", rsa)
	rsaPub, err := os.ReadFile(rsa + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(s.hostFile("db1", hostKey+".pub")); err != nil { // it can be derived
		t.Fatal(err)
	}
	write(t, s.hostFile("public", hostKey+".pub"), pub, 0o644)
	write(t, s.hostFile("aged", hostKey+".pub"), pub, 0o644)
	write(t, s.hostFile("aged", hostKey+".age"), "age-encryption.org/v1", 0o600)
	write(t, s.hostFile("gnu", hostKey+".pub"), pub, 0o644)
	write(t, s.hostFile("gnu", hostKey+".gpg"), "\x85", 0o600)
	write(t, filepath.Join(s.String(), "hosts/README"), "not a host", 0o644)
	write(t, s.hostFile(".git", "HEAD"), "not a host", 0o644)

	broken := map[string]string{"sealed": "write it with ssh-keygen -y", "empty": "no such file", "noise": ":1: not a public key",
		"rsa": "does not hold one ed25519", "two": "does not hold one ed25519", "huge": "not a file of keys", "under_score": "not a host name"}
	write(t, s.hostFile("sealed", hostKey+".age"), "age", 0o600)
	write(t, s.hostFile("empty", "deploy_key_ed25519.pub"), pub, 0o600)
	write(t, s.hostFile("noise", hostKey+".pub"), "noise", 0o600)
	write(t, s.hostFile("rsa", hostKey+".pub"), string(rsaPub), 0o600)
	write(t, s.hostFile("two", hostKey+".pub"), pub+pub, 0o600)
	write(t, s.hostFile("huge", hostKey+".pub"), strings.Repeat("#", maxFile+1), 0o600)
	write(t, s.hostFile("under_score", hostKey+".pub"), pub, 0o600)

	hosts, err := s.Hosts()
	var got []string
	for _, h := range hosts {
		want := web.Key
		if h.Name == "db1" {
			want = db.Key
		}
		if ssh.FingerprintSHA256(h.Key) != ssh.FingerprintSHA256(want) {
			t.Errorf("%s has the wrong key", h.Name)
		}
		got = append(got, h.Name+"="+string(h.Form))
	}
	if want := "aged=age db1=plain gnu=gpg public= web1=plain"; strings.Join(got, " ") != want {
		t.Errorf("got hosts %q, want %q", got, want)
	}
	for name, why := range broken {
		wantError(t, err, name)
		_, err := s.Host(name)
		wantError(t, err, why)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	write(t, file, "", 0o600)
	_, err := Open(file)
	wantError(t, err, "not a folder")
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	_, err = Open(dir)
	wantError(t, err, "chmod o-w")
}

func TestPrivateKeyRefuses(t *testing.T) {
	s := open(t)
	for name, change := range map[string]func(path string){
		"readable":   func(p string) { os.Chmod(p, 0o640) },
		"passphrase": func(p string) { tool(t, "ssh-keygen", "-q", "-p", "-N", "long enough", "-f", p) },
		"mixed-up":   func(p string) { write(t, p+".pub", AuthorizedKey{Key: create(t, s, "other").Key}.String(), 0o644) },
		"cut":        func(p string) { write(t, p, "-----BEGIN OPENSSH PRIVATE KEY-----\n", 0o600) },
		"encrypted":  func(p string) { os.Rename(p, p+".age") },
		"away":       func(p string) { os.Remove(p) },
	} {
		create(t, s, name)
		change(s.hostFile(name, hostKey))
	}
	for name, why := range map[string]string{
		"readable": "chmod 600", "passphrase": "ssh-keygen -p", "mixed-up": "belongs to", "cut": "no key found",
		"encrypted": ErrEncrypted.Error(), "away": ErrAbsent.Error(), "missing": "keys new",
	} {
		b, err := s.PrivateKey(name)
		wantError(t, err, why)
		if b != nil {
			t.Errorf("%s: the key is returned all the same", name)
		}
	}
	if _, err := s.PrivateKey("encrypted"); !errors.Is(err, ErrEncrypted) {
		t.Errorf("got %v, want ErrEncrypted", err)
	}
	// Deriving the public key reads the private one, with the same care.
	if err := os.Remove(s.hostFile("readable", hostKey+".pub")); err != nil {
		t.Fatal(err)
	}
	_, err := s.Host("readable")
	wantError(t, err, "chmod 600")
}
