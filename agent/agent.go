// Package agent runs the services of a booted installer side by side and tells
// systemd how they do.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// The back-off of a service that fails: from firstPause, doubling, to longestPause,
// and from the start again once it ran for goodRun.
const (
	firstPause   = time.Second
	longestPause = time.Minute
	goodRun      = time.Minute
)

// readyWait is how long the start of the machine may be held for services that
// are not ready yet: a dead tailnet must not stop the boot.
const readyWait = 5 * time.Second

// A Service is something the agent does until it is told to stop.
type Service interface {
	// Run runs until ctx is done, and then returns nil. It may be called again
	// after it returned.
	Run(ctx context.Context) error
	// Ready is closed once the service first works.
	Ready() <-chan struct{}
	// String names the service in logs.
	fmt.Stringer
}

// An Agent keeps services running. One that fails or panics is started again
// after a pause and never stops the others: a machine without a tailnet must
// still answer on its LAN.
type Agent struct {
	Log      *slog.Logger // if nil, nothing is logged
	Services []Service

	// Notify passes a state to the service manager, as sd_notify(3) describes it.
	// If nil, it goes to the socket that systemd names in NOTIFY_SOCKET.
	Notify func(state string) error

	// Watchdog is how often the service manager wants to hear that the agent
	// lives. If 0, what systemd asks for in WATCHDOG_USEC.
	Watchdog time.Duration
}

// Run runs all services until ctx is done and they have stopped.
func (a *Agent) Run(ctx context.Context) {
	s := newSupervisor(a)
	done := make(chan struct{})
	for i := range a.Services {
		go func() {
			defer func() { done <- struct{}{} }()
			s.keep(ctx, i)
		}()
	}
	s.watch(ctx)
	s.notify(daemon.SdNotifyStopping)
	for range a.Services {
		<-done
	}
}

// keep runs service i again and again until ctx is done.
func (s *supervisor) keep(ctx context.Context, i int) {
	service, pause := s.services[i], firstPause
	for {
		s.report(ctx, i, "running")
		began := time.Now()
		err := run(ctx, service)
		if ctx.Err() != nil {
			if err != nil {
				s.log.Warn("service did not stop well", "service", service.String(), "err", err)
			}
			return
		}
		if time.Since(began) >= goodRun {
			pause = firstPause
		}
		s.log.Warn("service stopped, restarting", "service", service.String(), "err", err, "pause", pause)
		s.report(ctx, i, fmt.Sprintf("restarting in %v: %v", pause, err))
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, longestPause)
	}
}

// errReturned is the failure of a service that stopped without being told to.
var errReturned = errors.New("returned early")

// run runs a service once. A panic is its failure, not the agent's.
func run(ctx context.Context, s Service) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	if err := s.Run(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	return errReturned
}
