//go:build linux

// Package announce tells the LAN that this installer is here.
//
// It answers multicast DNS queries with hashicorp/mdns, on every link, and does
// what that library leaves out: it announces by itself when a link or an address
// comes, so that browsers need not ask, and says goodbye when one goes
// (RFC 6762 sections 8.3 and 10.1). It works from before the first link exists.
package announce

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/nixctl/nixctl/agent"
	"github.com/nixctl/nixctl/discovery/beacon"
)

const (
	// settle is how long after an event the network is looked at: a link that
	// comes up brings several.
	settle = 100 * time.Millisecond

	// look is how often the claim is looked at. Host keys may come late, from a
	// stick that is plugged in.
	look = time.Second

	// repeat is the time between the two announcements of a change, and the least
	// time between two answers to everybody (RFC 6762 sections 8.3 and 6).
	repeat = time.Second

	// refresh is the time between announcements while nothing changes: half of
	// the records' life.
	refresh = ttl / 2 * time.Second
)

// A Responder announces this machine. It implements [agent.Service].
type Responder struct {
	claim func(card net.HardwareAddr) (beacon.Claim, error)
	port  uint16
	log   *slog.Logger

	ready chan struct{}
	once  sync.Once
}

var _ agent.Service = (*Responder)(nil)

// New returns a responder that announces an SSH server on port. It calls claim
// once a second with the address of the card that stands for this machine; an
// error means that there is nothing to announce yet. If log is nil, nothing is
// logged.
func New(claim func(card net.HardwareAddr) (beacon.Claim, error), port uint16, log *slog.Logger) *Responder {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Responder{claim: claim, port: port, log: log, ready: make(chan struct{})}
}

// Ready implements [agent.Service]: it is closed after the first announcement.
func (r *Responder) Ready() <-chan struct{} { return r.ready }

func (r *Responder) String() string { return "mdns" }

// Run implements [agent.Service].
func (r *Responder) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	// Subscribed before the first look, so that no change falls in between.
	changes, err := subscribe(ctx)
	if err != nil {
		return err
	}
	p := &presence{responder: r, asked: make(chan int, 64), spoke: make(map[int]time.Time)}
	defer func() { p.leave(context.WithoutCancel(ctx)) }()
	return p.run(ctx, changes)
}

// errSubscription makes the agent start the responder again.
var errSubscription = errors.New("the kernel's list of network changes broke off")

// run keeps the presence in step with the network and with the claim.
func (p *presence) run(ctx context.Context, changes <-chan struct{}) error {
	looks, refreshes := time.NewTicker(look), time.NewTicker(refresh)
	defer looks.Stop()
	defer refreshes.Stop()
	settled, again := time.NewTimer(0), time.NewTimer(repeat) // look at once
	settling := true
	for {
		update := false
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-changes:
			if !ok && ctx.Err() == nil {
				return errSubscription
			}
			if !settling { // not put off for ever by a link that flaps
				settling = true
				settled.Reset(settle)
			}
		case <-settled.C:
			settling = false
			update = p.readNetwork()
		case <-looks.C:
			update = p.readClaim()
		case <-again.C:
			p.announce(ctx)
		case <-refreshes.C: // should an event have been lost
			update = p.readNetwork() || p.stale
			p.announce(ctx)
		case index := <-p.asked:
			if wait := p.answer(ctx, index); wait > 0 {
				again.Reset(wait)
			}
		}
		if update {
			p.renew(ctx)
			again.Reset(repeat)
		}
	}
}
