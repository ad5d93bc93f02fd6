package discovery_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nixctl/nixctl/discovery"
)

// script is a source that reports candidates at fixed times.
type script struct {
	name string
	at   map[time.Duration]string
	err  error
}

func (s script) String() string { return s.name }

func (s script) Find(ctx context.Context, found func(discovery.Candidate)) error {
	var times []time.Duration
	for d := range s.at {
		times = append(times, d)
	}
	slices.Sort(times)
	start := time.Now()
	for _, d := range times {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(d - time.Since(start)):
			found(discovery.Candidate{Addr: netip.MustParseAddrPort(s.at[d]), Source: s.name})
		}
	}
	return s.err
}

// TestFind: sources run side by side, what they find comes at once, and one that fails
// hides nothing of the others.
func TestFind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		errNoSocket := errors.New("open raw socket: operation not permitted")
		sources := []discovery.Source{
			script{name: "arp/eth0", err: errNoSocket},
			script{name: "mdns", at: map[time.Duration]string{1 * time.Second: "10.0.0.2:22", 9 * time.Second: "10.0.0.9:22"}},
			script{name: "tailnet", at: map[time.Duration]string{2 * time.Second: "10.0.0.2:22", 3 * time.Second: "100.64.0.7:22"}},
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		start := time.Now()
		var got []string
		err := discovery.Find(ctx, sources, func(c discovery.Candidate) {
			got = append(got, fmt.Sprintf("%v %s %s", time.Since(start), c.Source, c.Addr))
		})
		want := []string{"1s mdns 10.0.0.2:22", "2s tailnet 10.0.0.2:22", "3s tailnet 100.64.0.7:22"}
		if !slices.Equal(got, want) {
			t.Errorf("found %q, want %q", got, want)
		}
		if !errors.Is(err, errNoSocket) || !strings.HasPrefix(err.Error(), "arp/eth0: ") {
			t.Errorf("error %v, want one that names arp/eth0 and wraps %v", err, errNoSocket)
		}
	})
}
