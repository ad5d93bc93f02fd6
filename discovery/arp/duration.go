package arp

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

const (
	wiredRate = 10_000 // ARP requests a second
	wifiRate  = 1_000
	wiredGap  = 50 * time.Millisecond // from one round to the next
	wifiGap   = 150 * time.Millisecond
)

// An UnaskedError tells that the time was over before every address was asked.
type UnaskedError struct {
	N     int           // addresses that were not asked
	Needs time.Duration // as [Source.Duration] tells
}

func (e *UnaskedError) Error() string {
	return fmt.Sprintf("%d addresses were not asked before the time was over\ngive --timeout %v", e.N, e.Needs)
}

// unasked is the error for n addresses that were not asked when ctx ended, nil if
// nobody waited for them.
func (s *Source) unasked(ctx context.Context, n int) error {
	if n == 0 || s.Every > 0 || !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil
	}
	return &UnaskedError{N: n, Needs: s.Duration()}
}

// Duration estimates how long a single sweep takes, in whole seconds: an upper
// bound on a network that loses little. It depends on the networks to sweep, the
// Rate, and whether there are raw sockets. If hosts answer, a sweep is over sooner.
func (s *Source) Duration() time.Duration {
	if s.Interface == nil {
		return 0
	}
	echo := leastTries*echoGap + s.linger() + redials*dialLimit
	var four time.Duration
	if s.raw() {
		targets, _ := s.targets(maxTargets) // what is too large is not swept
		rate, gap := s.pace()
		four = sweepTime(len(targets), rate, gap) + s.linger()
	} else {
		todo, _ := s.connectTargets()
		four = connectTime(len(todo))
	}
	return (max(echo, four) + time.Second - 1).Truncate(time.Second)
}

// pace is how many requests to send a second, and how far rounds are apart.
func (s *Source) pace() (rate int, gap time.Duration) {
	rate, gap = wiredRate, wiredGap
	if _, err := os.Stat("/sys/class/net/" + s.Interface.Name + "/phy80211"); err == nil {
		rate, gap = wifiRate, wifiGap
	}
	if s.Rate > 0 {
		rate = s.Rate
	}
	return rate, gap
}

// sweepTime is how long it takes to ask n addresses as often as if none answered.
func sweepTime(n, rate int, gap time.Duration) time.Duration {
	round := time.Duration(float64(n) / float64(rate) * float64(time.Second))
	return leastTries * (round + gap)
}

// connectTime is the same without raw sockets.
func connectTime(n int) time.Duration {
	pauses := time.Duration(max(0, n-1)/chunk) * chunkGap
	return leastTries*pauses + (1+(leastTries-1)*redials)*dialLimit
}
