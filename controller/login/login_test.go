package login

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

func write(t *testing.T, name, content string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// keygen makes a key with OpenSSH and returns its fingerprint.
func keygen(t *testing.T, name, typ, passphrase string) string {
	t.Helper()
	if _, err := exec.LookPath("ssh-keygen"); err != nil {
		t.Skip("needs ssh-keygen: apt-get install openssh-client")
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("ssh-keygen", "-q", "-t", typ, "-N", passphrase, "-C", filepath.Base(name), "-f", name).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %s", out)
	}
	b, err := os.ReadFile(name + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey(b)
	if err != nil {
		t.Fatal(err)
	}
	return ssh.FingerprintSHA256(public)
}

// sshAgent starts OpenSSH's agent with the keys and returns its socket.
func sshAgent(t *testing.T, keys ...string) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "agent")
	cmd := exec.Command("ssh-agent", "-D", "-a", socket)
	if err := cmd.Start(); err != nil {
		t.Skipf("needs ssh-agent: %v", err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	await(t, "unix", socket)
	for _, k := range keys {
		add := exec.Command("ssh-add", "-q", k)
		add.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket)
		if out, err := add.CombinedOutput(); err != nil {
			t.Fatalf("ssh-add: %s", out)
		}
	}
	return socket
}

// await waits until something listens; the test's own time limit is the bound.
func await(t *testing.T, network, addr string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if c, err := net.Dial(network, addr); err == nil {
			c.Close()
			return
		}
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
}

// sshd starts OpenSSH's server that takes the public keys of the named files.
func sshd(t *testing.T, authorized ...string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: sshd logs in as root")
	}
	if _, err := os.Stat("/usr/sbin/sshd"); err != nil {
		t.Skip("needs sshd: apt-get install openssh-server")
	}
	dir := t.TempDir()
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		t.Fatal(err)
	}
	keygen(t, dir+"/host", "ed25519", "")
	var lines strings.Builder
	for _, name := range authorized {
		b, err := os.ReadFile(name + ".pub")
		if err != nil {
			t.Fatal(err)
		}
		lines.Write(b)
	}
	write(t, dir+"/authorized", lines.String())
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	_, port, _ := net.SplitHostPort(addr)
	write(t, dir+"/config", fmt.Sprintf("ListenAddress 127.0.0.1\nPort %s\nHostKey %[2]s/host\nPidFile none\nAuthorizedKeysFile %[2]s/authorized\n"+
		"StrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n", port, dir))
	cmd := exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", dir+"/config")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	await(t, "tcp", addr)
	return addr
}

func dial(l *Login, addr string) error {
	c, err := ssh.Dial("tcp", addr, &ssh.ClientConfig{User: l.User, Auth: l.Methods, HostKeyCallback: ssh.InsecureIgnoreHostKey()})
	if err == nil {
		c.Close()
	}
	return err
}

func offered(l *Login) (fingerprints []string) {
	for _, k := range l.keys {
		fingerprints = append(fingerprints, ssh.FingerprintSHA256(k.PublicKey()))
	}
	return fingerprints
}

func TestOrder(t *testing.T) {
	t.Setenv("SSH_AUTH_SOCK", "")
	home, store := t.TempDir(), t.TempDir()
	named := keygen(t, home+"/named", "ed25519", "")
	inAgent := keygen(t, home+"/agent", "rsa", "")
	both := keygen(t, home+"/.ssh/both", "ecdsa", "")
	usual := keygen(t, home+"/.ssh/id_ed25519", "ed25519", "")
	stored := keygen(t, store+"/users/ann/id_ed25519", "ed25519", "")
	keygen(t, home+"/.ssh/id_rsa", "rsa", "locked")
	socket := sshAgent(t, home+"/agent", home+"/.ssh/both")
	config := "Host web1\n\tIdentityFile ~/.ssh/both\n\tUser ann\n\tHostName 192.0.2.1\n\tPort 2222\n\tProxyJump gate\n"
	for _, tt := range []struct {
		name, config string
		cfg          Config
		want         []string
		user         string
	}{
		{"nothing configured", "", Config{KeyStore: store}, []string{usual, stored}, "root"},
		{"agent", "", Config{Agent: socket}, []string{inAgent, both, usual}, "root"},
		{"all", config, Config{Host: "web1", Agent: socket, KeyStore: store, Identities: []string{"~/named"}}, []string{named, inAgent, both, stored}, "ann"},
		{"by address", strings.Replace(config, "web1", "10.*", 1), Config{Host: "db1", Address: "10.1.2.3"}, []string{both}, "ann"},
		{"user named", config, Config{Host: "web1", User: "bob"}, []string{both}, "bob"},
		{"IdentitiesOnly", config + "\tIdentitiesOnly yes\n", Config{Host: "web1", Agent: socket}, []string{both}, "ann"},
		{"IdentityAgent none", "IdentityAgent none\n", Config{Agent: socket}, []string{usual}, "root"},
		{"IdentityAgent", "IdentityAgent " + socket + "\n", Config{}, []string{inAgent, both, usual}, "root"},
		{"public key of the agent", "", Config{Agent: socket, Identities: []string{home + "/.ssh/both.pub"}}, []string{both, inAgent, usual}, "root"},
		{"other host", config, Config{Host: "web2"}, []string{usual}, "root"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			write(t, home+"/.ssh/config", tt.config)
			tt.cfg.Home = home
			if tt.cfg.Host == "" {
				tt.cfg.Host = "any"
			}
			l, err := New(t.Context(), tt.cfg)
			if err != nil {
				t.Fatal(err)
			}
			if got := offered(l); !slices.Equal(got, tt.want) || l.User != tt.user {
				t.Errorf("%q offers %v, want %q with %v; notes %q", l.User, got, tt.user, tt.want, l.Notes)
			}
			if tt.name == "all" && (l.HostName != "192.0.2.1" || l.Port != "2222" || l.ProxyJump != "gate") {
				t.Errorf("settings %q, %q, %q", l.HostName, l.Port, l.ProxyJump)
			}
		})
	}
}

// TestLogin logs in to sshd with each kind of key, twice: a link may be lost.
func TestLogin(t *testing.T) {
	t.Setenv("SSH_AUTH_SOCK", "")
	dir := t.TempDir()
	for _, typ := range []string{"ed25519", "rsa", "ecdsa"} {
		keygen(t, dir+"/"+typ, typ, "")
	}
	keygen(t, dir+"/locked", "ed25519", "secret")
	addr := sshd(t, dir+"/ed25519", dir+"/rsa", dir+"/ecdsa", dir+"/locked")
	ask := func(_ context.Context, prompt string) ([]byte, error) {
		if !strings.Contains(prompt, dir+"/locked") {
			t.Errorf("prompt %q does not name the key", prompt)
		}
		return []byte("secret"), nil
	}
	for name, cfg := range map[string]Config{
		"ed25519":       {Identities: []string{dir + "/ed25519"}},
		"rsa":           {Identities: []string{dir + "/rsa"}},
		"agent ed25519": {Agent: sshAgent(t, dir+"/ed25519")},
		"agent rsa":     {Agent: sshAgent(t, dir+"/rsa")},
		"agent ecdsa":   {Agent: sshAgent(t, dir+"/ecdsa")},
		"passphrase":    {Identities: []string{dir + "/locked"}, Ask: ask},
	} {
		cfg.Home = t.TempDir()
		l, err := New(t.Context(), cfg)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for range 2 {
			if err := dial(l, addr); err != nil {
				t.Errorf("%s: %v", name, l.Explain(err))
			}
		}
	}
}

func TestRefused(t *testing.T) {
	t.Setenv("SSH_AUTH_SOCK", "")
	dir := t.TempDir()
	right, wrong := dir+"/right", dir+"/wrong"
	keygen(t, right, "ed25519", "")
	fingerprint := keygen(t, wrong, "ed25519", "")
	addr := sshd(t, right)
	l, err := New(t.Context(), Config{Home: dir, Identities: []string{wrong}, KeyStore: "/keys"})
	if err != nil {
		t.Fatal(err)
	}
	err = l.Explain(dial(l, addr))
	var refused *RefusedError
	if !errors.As(err, &refused) {
		t.Fatalf("%v, want a RefusedError", err)
	}
	for _, want := range []string{`permission denied for "root"`, fingerprint, wrong, "/keys/authorized_keys"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not tell %q", err, want)
		}
	}
	none, err := New(t.Context(), Config{Home: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if err := none.Explain(dial(none, addr)); !strings.Contains(err.Error(), "no key to offer") {
		t.Errorf("without keys: %v", err)
	}
	// Eight wrong keys: sshd ends the connection before it sees all.
	var many []string
	for i := range 8 {
		many = append(many, fmt.Sprintf("%s/%d", dir, i))
		keygen(t, many[i], "ed25519", "")
	}
	if l, err = New(t.Context(), Config{Home: dir, Identities: many}); err != nil {
		t.Fatal(err)
	}
	if err := l.Explain(dial(l, addr)); !errors.As(err, &refused) || !strings.Contains(err.Error(), "IdentitiesOnly") {
		t.Errorf("with too many keys: %v", err)
	}
	// An error of the network is not a refusal.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	if err := l.Explain(dial(l, ln.Addr().String())); err == nil || errors.As(err, new(*RefusedError)) {
		t.Errorf("nobody listens: %v, want the error of the network", err)
	}
}

func TestUnusableKeys(t *testing.T) {
	t.Setenv("SSH_AUTH_SOCK", "")
	home := t.TempDir()
	open, locked := home+"/.ssh/id_ed25519", home+"/.ssh/id_rsa"
	keygen(t, open, "ed25519", "")
	fingerprint := keygen(t, locked, "rsa", "secret")
	if err := os.Chmod(open, 0o640); err != nil {
		t.Fatal(err)
	}
	write(t, home+"/.ssh/config", "Match exec \"true\"\n\tUser ann\n")
	write(t, home+"/garbage", "no key")
	refuses := func(context.Context, string) ([]byte, error) { return nil, errors.New("no terminal") }
	mistypes := func(context.Context, string) ([]byte, error) { return []byte("wrong"), nil }
	for want, cfg := range map[string]Config{
		"chmod 600":           {Identities: []string{open}},
		"ssh-add":             {Identities: []string{locked}},
		"no terminal":         {Identities: []string{locked}, Ask: refuses},
		"decryption password": {Identities: []string{locked}, Ask: mistypes},
		"no such file":        {Identities: []string{home + "/none"}},
		"does not hold":       {Identities: []string{open + ".pub"}},
		"garbage":             {Identities: []string{home + "/garbage"}},
	} {
		cfg.Home = home
		if _, err := New(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: error %v, want one with %q", cfg.Identities, err, want)
		}
	}
	l, err := New(t.Context(), Config{Home: home, Agent: home + "/no-agent"})
	if err != nil {
		t.Fatal(err)
	}
	notes := strings.Join(l.Notes, "\n")
	for _, want := range []string{"chmod 600", "ssh-add", "ssh-agent", ".ssh/config"} {
		if !strings.Contains(notes, want) {
			t.Errorf("notes do not tell of %q:\n%s", want, notes)
		}
	}
	if len(l.keys) != 0 {
		t.Errorf("offers %v", offered(l))
	}
	keys, err := PublicKeys(Config{Home: home, Identities: []string{locked}})
	if err != nil || len(keys) != 2 || ssh.FingerprintSHA256(keys[0].Key) != fingerprint {
		t.Errorf("public keys %v, %v, want that of the locked key first, %s", keys, err, fingerprint)
	}
}

// TestAgentComment: a comment becomes part of one line and no more.
func TestAgentComment(t *testing.T) {
	t.Setenv("SSH_AUTH_SOCK", "")
	home := t.TempDir()
	keygen(t, home+"/key", "ed25519", "")
	if out, err := exec.Command("ssh-keygen", "-q", "-c", "-C", "ann\nssh-ed25519 AAAA evil", "-f", home+"/key").CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %s", out)
	}
	keys, err := PublicKeys(Config{Home: t.TempDir(), Agent: sshAgent(t, home+"/key")})
	if err != nil || len(keys) != 1 {
		t.Fatalf("%v, %v", keys, err)
	}
	if line := keys[0].String(); strings.Contains(line, "\n") || !strings.Contains(line, "ann") {
		t.Errorf("line %q", line)
	}
}
