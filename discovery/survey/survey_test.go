package survey_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nixctl/nixctl/discovery"
	"github.com/nixctl/nixctl/discovery/beacon"
	"github.com/nixctl/nixctl/discovery/survey"
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

// serve starts an SSH server on a loopback address with the given host key.
func serve(t *testing.T, ip string, key ssh.Signer) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", ip+":0")
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

// list is a source that reports each candidate once the previous one was told of,
// or after a while if it never is.
type list struct {
	name  string
	found []discovery.Candidate
	err   error
}

func (l list) String() string { return l.name }

func (l list) Find(ctx context.Context, found func(discovery.Candidate)) error {
	for _, c := range l.found {
		c.Source = l.name
		found(c)
	}
	return l.err
}

// describe prints machines in a form that does not depend on ports.
func describe(machines map[int]survey.Machine) []string {
	var out []string
	for _, m := range machines {
		var ips []string
		for _, a := range m.Addresses {
			ips = append(ips, a.Addr().String())
		}
		name := "?"
		if m.Verified() {
			name = m.Installer.Name()
		}
		out = append(out, fmt.Sprintf("%s %s %s via %s", name, m.MAC, strings.Join(ips, ","), strings.Join(m.Via, ",")))
	}
	slices.Sort(out)
	return out
}

func TestMachines(t *testing.T) {
	web, shared, strange := newKey(t), newKey(t), newKey(t)
	const mac1, mac2, mac3 = "52:54:00:00:00:01", "52:54:00:00:00:02", "52:54:00:00:00:03"
	at := func(addr netip.AddrPort, mac string, claim beacon.Claim) discovery.Candidate {
		return discovery.Candidate{Addr: addr, Route: discovery.LAN, MAC: mac, Claim: claim}
	}
	claim := func(id, mac string) beacon.Claim { return beacon.Claim{Fingerprint: "SHA256:x", ID: id, MAC: mac} }
	silent, err := net.Listen("tcp", "127.0.0.99:0")
	if err != nil {
		t.Fatal(err)
	}
	silent.Close() // nobody listens there

	tests := []struct {
		name      string
		arp, mdns []discovery.Candidate
		want      []string
	}{
		{
			name: "one machine found by both sources is one row",
			arp:  []discovery.Candidate{at(serve(t, "127.0.0.2", web), mac1, beacon.Claim{})},
			want: []string{"web1 " + mac1 + " 127.0.0.2 via arp"},
		}, {
			name: "one key on two machines is two rows",
			arp:  []discovery.Candidate{at(serve(t, "127.0.0.2", shared), mac1, beacon.Claim{}), at(serve(t, "127.0.0.3", shared), mac2, beacon.Claim{})},
			want: []string{"installer " + mac1 + " 127.0.0.2 via arp", "installer " + mac2 + " 127.0.0.3 via arp"},
		}, {
			name: "two addresses with one MAC are one row",
			arp:  []discovery.Candidate{at(serve(t, "127.0.0.3", shared), mac1, beacon.Claim{}), at(serve(t, "127.0.0.2", shared), mac1, beacon.Claim{})},
			want: []string{"installer " + mac1 + " 127.0.0.2,127.0.0.3 via arp"},
		}, {
			name: "two addresses with one MAC and two keys are two rows",
			arp:  []discovery.Candidate{at(serve(t, "127.0.0.2", shared), mac1, beacon.Claim{}), at(serve(t, "127.0.0.3", strange), mac1, beacon.Claim{})},
			want: []string{"? " + mac1 + " 127.0.0.3 via arp", "installer " + mac1 + " 127.0.0.2 via arp"},
		}, {
			name: "a claim joins where the link layer is silent",
			arp:  []discovery.Candidate{at(serve(t, "127.0.0.2", shared), mac1, beacon.Claim{})},
			mdns: []discovery.Candidate{at(serve(t, "127.0.0.3", shared), "", claim("a", mac1)), at(serve(t, "127.0.0.4", shared), "", claim("a", mac1))},
			want: []string{"installer " + mac1 + " 127.0.0.2,127.0.0.3,127.0.0.4 via arp,mdns"},
		}, {
			name: "a forged claim joins nothing",
			arp:  []discovery.Candidate{at(serve(t, "127.0.0.2", shared), mac1, claim("a", mac3)), at(serve(t, "127.0.0.3", shared), mac2, claim("a", mac3))},
			mdns: []discovery.Candidate{at(serve(t, "127.0.0.4", strange), "", claim("a", mac1))},
			want: []string{"?  127.0.0.4 via mdns", "installer " + mac1 + " 127.0.0.2 via arp", "installer " + mac2 + " 127.0.0.3 via arp"},
		}, {
			name: "who does not answer is not listed",
			arp:  []discovery.Candidate{at(netip.MustParseAddrPort(silent.Addr().String()), mac1, beacon.Claim{})},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &survey.Survey{
				Sources: []discovery.Source{list{name: "arp", found: tt.arp}, list{name: "mdns", found: tt.mdns}},
				Verifier: &verify.Verifier{
					Identities: []verify.Identity{{Name: "web1", Key: web.PublicKey()}, {Name: "installer", Key: shared.PublicKey()}},
					Dial:       map[discovery.Route]verify.DialFunc{discovery.LAN: verify.DialLAN},
				},
			}
			got := make(map[int]survey.Machine)
			if err := s.Run(t.Context(), func(m survey.Machine) { got[m.ID] = m }); err != nil {
				t.Fatal(err)
			}
			if d := describe(got); !slices.Equal(d, tt.want) {
				t.Errorf("machines\n got %q\nwant %q", d, tt.want)
			}
		})
	}
}

// TestSourceErrors: what one source finds is not lost to the failure of another.
func TestSourceErrors(t *testing.T) {
	web := newKey(t)
	errNoSocket := errors.New("open raw socket: operation not permitted")
	s := &survey.Survey{
		Sources: []discovery.Source{
			list{name: "arp/eth0", err: errNoSocket},
			list{name: "mdns", found: []discovery.Candidate{{Addr: serve(t, "127.0.0.2", web), Route: discovery.LAN}}},
		},
		Verifier: &verify.Verifier{Identities: []verify.Identity{{Name: "web1", Key: web.PublicKey()}},
			Dial: map[discovery.Route]verify.DialFunc{discovery.LAN: verify.DialLAN}},
	}
	n := 0
	err := s.Run(t.Context(), func(survey.Machine) { n++ })
	if n == 0 || !errors.Is(err, errNoSocket) || !strings.HasPrefix(err.Error(), "arp/eth0: ") {
		t.Errorf("%d updates, error %v; want some, and the error of arp/eth0", n, err)
	}
}

// tide is a source of which a machine says goodbye once it was told of.
type tide struct {
	c    discovery.Candidate
	seen chan struct{}
}

func (tide) String() string { return "mdns" }

func (s tide) Find(ctx context.Context, found func(discovery.Candidate)) error {
	found(s.c)
	select {
	case <-s.seen:
	case <-ctx.Done():
		return nil
	}
	s.c.Gone = true
	found(s.c)
	return nil
}

func TestGoodbye(t *testing.T) {
	web := newKey(t)
	src := tide{c: discovery.Candidate{Addr: serve(t, "127.0.0.2", web), Route: discovery.LAN, Source: "mdns"}, seen: make(chan struct{})}
	s := &survey.Survey{Sources: []discovery.Source{src}, Timeout: time.Minute, Verifier: &verify.Verifier{
		Identities: []verify.Identity{{Name: "web1", Key: web.PublicKey()}},
		Dial:       map[discovery.Route]verify.DialFunc{discovery.LAN: verify.DialLAN}}}
	var gone []bool
	err := s.Run(t.Context(), func(m survey.Machine) {
		if gone = append(gone, m.Gone); len(gone) == 1 {
			close(src.seen)
		}
	})
	if err != nil || !slices.Equal(gone, []bool{false, true}) {
		t.Errorf("gone %v, error %v; want the machine to come and go", gone, err)
	}
}
