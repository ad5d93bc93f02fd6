package main

import (
	"crypto/ed25519"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// newKey writes a host key and returns its public half.
func newKey(t *testing.T, file string) ssh.PublicKey {
	t.Helper()
	pub, priv, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(priv, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestHandshakeProvesTheKeyAndLoginFails(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	want := newKey(t, file)
	config, err := load(file)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- serve(l, config) }()

	signer, err := ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // one client must not be the last
		proved := false
		_, err = ssh.Dial("tcp", l.Addr().String(), &ssh.ClientConfig{
			User: "root",
			Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)},
			HostKeyCallback: func(_ string, _ net.Addr, got ssh.PublicKey) error {
				proved = string(got.Marshal()) == string(want.Marshal())
				return nil
			},
		})
		if !proved {
			t.Error("another host key, or none")
		}
		if err == nil || !strings.Contains(err.Error(), "unable to authenticate") {
			t.Errorf("login: %v", err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestBadKeys(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"empty": "", "nonsense": "-----BEGIN OPENSSH PRIVATE KEY-----\n"} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := run(file, "127.0.0.1:0"); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := run(filepath.Join(dir, "none"), "127.0.0.1:0"); err == nil {
		t.Error("a key that is not there was loaded")
	}
}
