package survey_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nixctl/nixctl/discovery"
	"github.com/nixctl/nixctl/discovery/survey"
	"github.com/nixctl/nixctl/discovery/verify"
)

// A sight is an address that a source reports, at seconds after its start.
type sight struct {
	at   int
	addr string
	mac  string
}

// A script is a source that reports its sights when their time has come.
type script []sight

func (script) String() string { return "arp/eth0" }

func (s script) Find(ctx context.Context, found func(discovery.Candidate)) error {
	start := time.Now()
	for _, x := range s {
		select {
		case <-time.After(time.Until(start.Add(time.Duration(x.at) * time.Second))):
		case <-ctx.Done():
			return nil
		}
		found(discovery.Candidate{Addr: netip.MustParseAddrPort(x.addr), MAC: x.mac, Route: discovery.LAN, Source: "arp"})
	}
	return nil
}

// every is an address that is seen from the first second on, again and again.
func every(seconds, until int, addr, mac string) (s script) {
	for at := 0; at <= until; at += seconds {
		s = append(s, sight{at, addr, mac})
	}
	return s
}

// A change puts a server behind all addresses, at seconds after the start.
type change struct {
	at     int
	server string // "" refuses
}

// A network leads every connection to the server that is there at the time.
type network struct {
	start   time.Time
	changes []change
	servers map[string]netip.AddrPort

	mu    sync.Mutex
	dials []time.Duration
}

func (n *network) dial(ctx context.Context, proto, _ string) (net.Conn, error) {
	now := time.Since(n.start)
	n.mu.Lock()
	n.dials = append(n.dials, now)
	n.mu.Unlock()
	server := "web"
	for _, c := range n.changes {
		if now >= time.Duration(c.at)*time.Second {
			server = c.server
		}
	}
	if server == "" {
		return nil, syscall.ECONNREFUSED
	}
	return verify.DialLAN(ctx, proto, n.servers[server].String())
}

const (
	ip2, ip3   = "10.0.0.2:22", "10.0.0.3:22"
	mac2, mac3 = "52:54:00:00:00:02", "52:54:00:00:00:03"
)

// TestWatch: what the survey tells over time. Sources and servers change at times
// of the bubble; the handshakes are real.
func TestWatch(t *testing.T) {
	web, other := newKey(t), newKey(t)
	servers := map[string]netip.AddrPort{"web": serve(t, "127.0.0.2", web), "other": serve(t, "127.0.0.3", other)}
	tests := []struct {
		name    string
		sources []script
		network []change
		recheck time.Duration
		want    []string // at which second which machine became what
	}{{
		name:    "who is seen again stays, who is not is gone",
		sources: []script{every(10, 200, ip2, mac2), {{1, ip3, mac3}}},
		want:    []string{"0 1 web1", "1 2 web1", "50 2 gone"},
	}, {
		name:    "an address that refuses loses its mark, then its machine",
		sources: []script{every(10, 60, ip2, mac2)},
		network: []change{{15, ""}},
		want:    []string{"0 1 web1", "20 1 ?", "30 1 gone"},
	}, {
		name:    "one failure is not the end",
		sources: []script{every(10, 60, ip2, mac2)},
		network: []change{{15, ""}, {25, "web"}},
		want:    []string{"0 1 web1", "20 1 ?", "30 1 web1"},
	}, {
		name:    "who comes back is a new machine",
		sources: []script{every(10, 60, ip2, mac2)},
		network: []change{{15, ""}, {35, "web"}},
		want:    []string{"0 1 web1", "20 1 ?", "30 1 gone", "40 2 web1"},
	}, {
		name:    "another key at the address leaves no ghost",
		sources: []script{every(10, 60, ip2, mac2)},
		network: []change{{15, "other"}},
		want:    []string{"0 1 web1", "20 1 gone", "20 2 ?"},
	}, {
		name:    "another MAC at the address leaves no ghost",
		sources: []script{{{0, ip2, mac2}, {5, ip2, mac3}, {35, ip2, mac3}}},
		want:    []string{"0 1 web1", "5 1 gone", "5 2 web1"},
	}, {
		name:    "a machine that keeps one of its addresses stays",
		sources: []script{{{0, ip2, mac2}, {0, ip3, mac2}, {5, ip3, mac3}}},
		want:    []string{"0 1 web1", "5 2 web1"},
	}, {
		name:    "a recheck of one's own choice",
		sources: []script{every(1, 10, ip2, mac2)},
		recheck: 4 * time.Second,
		network: []change{{1, ""}},
		want:    []string{"0 1 web1", "4 1 ?", "6 1 gone"},
	}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &network{start: time.Now(), changes: tt.network, servers: servers}
				s := &survey.Survey{Expire: 40 * time.Second, Recheck: tt.recheck, Verifier: &verify.Verifier{
					Identities: []verify.Identity{{Name: "web1", Key: web.PublicKey()}},
					Dial:       map[discovery.Route]verify.DialFunc{discovery.LAN: n.dial}}}
				for _, src := range tt.sources {
					s.Sources = append(s.Sources, src)
				}
				states := make(map[int]string)
				var got []string
				err := s.Run(t.Context(), func(m survey.Machine) {
					if state := stateOf(m); states[m.ID] != state {
						states[m.ID] = state
						got = append(got, fmt.Sprintf("%d %d %s", int(time.Since(n.start).Seconds()), m.ID, state))
					}
				})
				if err != nil || !slices.Equal(got, tt.want) {
					t.Errorf("error %v, told\n got %q\nwant %q", err, got, tt.want)
				}
			})
		})
	}
}

func stateOf(m survey.Machine) string {
	switch {
	case m.Gone:
		return "gone"
	case m.Verified():
		return m.Installer.Name()
	default:
		return "?"
	}
}

// TestRetryAfter: an address that is seen all the time is not asked all the time,
// whether it fails, changes its MAC, or is to be checked again.
func TestRetryAfter(t *testing.T) {
	web := newKey(t)
	server := serve(t, "127.0.0.2", web)
	var flapping script
	for at := range 20 {
		flapping = append(flapping, sight{at, ip2, []string{mac2, mac3}[at%2]})
	}
	for name, tt := range map[string]struct {
		source  script
		changes []change
		want    int
	}{
		"refuses":      {every(1, 20, ip2, mac2), []change{{0, ""}}, 11},
		"flaps":        {flapping, nil, 10},
		"is rechecked": {every(1, 20, ip2, mac2), nil, 11},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &network{start: time.Now(), changes: tt.changes, servers: map[string]netip.AddrPort{"web": server}}
				s := &survey.Survey{Sources: []discovery.Source{tt.source}, Recheck: time.Millisecond, Verifier: &verify.Verifier{
					Identities: []verify.Identity{{Name: "web1", Key: web.PublicKey()}},
					Dial:       map[discovery.Route]verify.DialFunc{discovery.LAN: n.dial}}}
				if err := s.Run(t.Context(), func(survey.Machine) {}); err != nil {
					t.Error(err)
				}
				for i := range n.dials[1:] {
					if gap := n.dials[i+1] - n.dials[i]; gap < 2*time.Second {
						t.Errorf("asked again after %v", gap)
					}
				}
				if len(n.dials) != tt.want {
					t.Errorf("asked at %v, want %d times", n.dials, tt.want)
				}
			})
		})
	}
}

// TestTarpit: a neighbour that answers for a whole network and never speaks
// neither keeps a machine waiting nor the survey going.
func TestTarpit(t *testing.T) {
	web := newKey(t)
	server := serve(t, "127.0.0.2", web)
	var source script
	for i := range 4096 {
		source = append(source, sight{0, fmt.Sprintf("10.0.%d.%d:22", 16+i/256, i%256), mac2})
	}
	source = append(source, sight{0, ip3, mac3})
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var verified time.Duration
		s := &survey.Survey{Sources: []discovery.Source{source}, Timeout: 3 * time.Second, Verifier: &verify.Verifier{
			Identities: []verify.Identity{{Name: "web1", Key: web.PublicKey()}},
			Dial: map[discovery.Route]verify.DialFunc{discovery.LAN: func(ctx context.Context, proto, addr string) (net.Conn, error) {
				if addr == ip3 {
					return verify.DialLAN(ctx, proto, server.String())
				}
				<-ctx.Done()
				return nil, ctx.Err()
			}}}}
		n := 0
		err := s.Run(t.Context(), func(survey.Machine) { n++; verified = time.Since(start) })
		if n != 1 || verified != 0 {
			t.Errorf("%d updates, the last after %v; want the machine at once", n, verified)
		}
		if took := time.Since(start); took > 15*time.Second {
			t.Errorf("took %v", took)
		}
		if !errors.Is(err, survey.ErrUnchecked) {
			t.Errorf("error %v, want ErrUnchecked", err)
		}
	})
}

// TestInterrupted: a survey that is broken off says nothing about what it left.
func TestInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := &survey.Survey{Sources: []discovery.Source{script{{0, ip2, mac2}}}, Timeout: time.Minute, Verifier: &verify.Verifier{
			Dial: map[discovery.Route]verify.DialFunc{discovery.LAN: func(ctx context.Context, _, _ string) (net.Conn, error) {
				cancel()
				<-ctx.Done()
				return nil, ctx.Err()
			}}}}
		if err := s.Run(ctx, func(m survey.Machine) { t.Errorf("told of %+v", m) }); err != nil {
			t.Error(err)
		}
	})
}
