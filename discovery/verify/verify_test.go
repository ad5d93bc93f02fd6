package verify_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/nixctl/nixctl/discovery"
	"github.com/nixctl/nixctl/discovery/verify"
	"golang.org/x/crypto/ssh"
)

func newKey(t *testing.T) ssh.Signer {
	t.Helper()
	_, priv, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// serve starts an SSH server with the given host key and returns its address.
func serve(t *testing.T, key ssh.Signer) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	cfg := &ssh.ServerConfig{NoClientAuth: true}
	cfg.AddHostKey(key)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go ssh.NewServerConn(c, cfg)
		}
	}()
	return netip.MustParseAddrPort(ln.Addr().String())
}

func TestVerify(t *testing.T) {
	pinned, trusted, other := newKey(t), newKey(t), newKey(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()

	tests := []struct {
		name string
		addr netip.AddrPort
		id   string
		want error
	}{
		{name: "pinned key", addr: serve(t, pinned), id: "web1"},
		{name: "trusted fingerprint", addr: serve(t, trusted), id: "db1"},
		{name: "other key", addr: serve(t, other), want: verify.ErrKeyMismatch},
		{name: "silent server", addr: netip.MustParseAddrPort(silent.Addr().String()), want: context.DeadlineExceeded},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			v := &verify.Verifier{
				Identities: []verify.Identity{{Name: "web1", Key: pinned.PublicKey()}, {Name: "db1", Fingerprint: ssh.FingerprintSHA256(trusted.PublicKey())}},
				Dial:       map[discovery.Route]verify.DialFunc{discovery.LAN: verify.DialLAN},
			}
			inst, err := v.Verify(ctx, discovery.Candidate{Addr: tt.addr, Route: discovery.LAN})
			if !errors.Is(err, tt.want) {
				t.Fatalf("error %v, want %v", err, tt.want)
			}
			if (inst != nil) != (tt.want == nil) {
				t.Fatalf("installer %v with error %v", inst, err)
			}
			if inst != nil && (inst.Name() != tt.id || inst.Addr() != tt.addr) {
				t.Errorf("proved %s, want %s at %s", inst, tt.id, tt.addr)
			}
			var unknown *verify.UnknownKeyError
			if errors.As(err, &unknown) && ssh.FingerprintSHA256(unknown.Key) != ssh.FingerprintSHA256(other.PublicKey()) {
				t.Errorf("error tells the key %s, want the one the server has", ssh.FingerprintSHA256(unknown.Key))
			}
		})
	}
}

// TestDialRefusesAnotherKey: a machine that changes its key between the proof and
// the login is not logged in to.
func TestDialRefusesAnotherKey(t *testing.T) {
	pinned, other := newKey(t), newKey(t)
	addrs := []string{serve(t, pinned).String(), serve(t, other).String()}
	v := &verify.Verifier{
		Identities: []verify.Identity{{Name: "web1", Key: pinned.PublicKey()}},
		Dial: map[discovery.Route]verify.DialFunc{discovery.LAN: func(ctx context.Context, network, _ string) (net.Conn, error) {
			next := addrs[0]
			addrs = addrs[1:]
			return verify.DialLAN(ctx, network, next)
		}},
	}
	inst, err := v.Verify(t.Context(), discovery.Candidate{Addr: netip.MustParseAddrPort(addrs[0]), Route: discovery.LAN})
	if err != nil {
		t.Fatal(err)
	}
	if c, err := inst.Dial(t.Context(), "root"); err == nil {
		c.Close()
		t.Fatal("logged in to a machine whose key had changed")
	}
}
