// Package discovery finds machines that may be booted installers.
//
// Each [Source] looks on one medium: an ARP sweep of an interface, mDNS, or a
// tailnet. [Find] runs them side by side and passes on each [Candidate] as it
// comes. Nothing here is trusted; package verify turns a candidate into an
// installer, and package survey puts what belongs to one machine together.
package discovery

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/nixctl/nixctl/discovery/beacon"
)

// A Route says how a candidate is reached, and so which dialer reaches it.
type Route string

// The routes.
const (
	LAN     Route = "lan"
	Tailnet Route = "tailnet"
)

// A Candidate is a machine that may be an installer.
type Candidate struct {
	Addr   netip.AddrPort // where its SSH server is expected; link-local addresses carry their zone
	Route  Route
	MAC    string       // as the link layer told, "52:54:00:12:34:56"; empty if it did not
	Claim  beacon.Claim // zero where the source carries none, as ARP does
	Source string       // "arp", "mdns" or "tailnet"
	Gone   bool         // the machine said goodbye: it is to be forgotten
}

// A Source finds candidates on one medium.
type Source interface {
	// Find calls found for each candidate, one call at a time, until ctx is done
	// or there is nothing more to look at. A source that goes on looking reports an
	// address again when it sees it again. A done ctx is not an error.
	Find(ctx context.Context, found func(Candidate)) error

	// String names the source and where it looks, such as "arp/eth0".
	String() string
}

// Find runs all sources at once and calls found, one call at a time, for each
// candidate they report. It returns when every source has returned.
//
// A failing source does not stop the others: its error is part of the returned
// error, and what was found stays found.
func Find(ctx context.Context, sources []Source, found func(Candidate)) error {
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		errs = make([]error, len(sources))
	)
	for i, s := range sources {
		wg.Go(func() {
			err := s.Find(ctx, func(c Candidate) {
				mu.Lock()
				defer mu.Unlock()
				found(c)
			})
			if err != nil {
				errs[i] = fmt.Errorf("%s: %w", s, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
