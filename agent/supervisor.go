package agent

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// A supervisor gathers what the services report and passes it to the service
// manager from one loop, so that a watchdog that is still fed means a loop that
// still turns.
type supervisor struct {
	log      *slog.Logger
	services []Service
	tell     func(state string) error
	watchdog time.Duration
	states   []string // of each service, for people who read systemctl status
	changes  chan change
}

// A change is a new state of a service.
type change struct {
	service int
	state   string
}

func newSupervisor(a *Agent) *supervisor {
	s := &supervisor{
		log: a.Log, services: a.Services, tell: a.Notify, watchdog: a.Watchdog,
		states: make([]string, len(a.Services)), changes: make(chan change),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.tell == nil {
		s.tell = func(state string) error { _, err := daemon.SdNotify(false, state); return err }
	}
	if s.watchdog == 0 {
		interval, err := daemon.SdWatchdogEnabled(false)
		if err != nil {
			s.log.Warn("the watchdog that systemd asks for is not understood", "err", err)
		}
		s.watchdog = interval
	}
	return s
}

// watch tells the service manager what happens until ctx is done.
func (s *supervisor) watch(ctx context.Context) {
	ready := s.ready(ctx)
	var feed <-chan time.Time
	if s.watchdog > 0 {
		// Half of the interval, as sd_watchdog_enabled(3) advises.
		t := time.NewTicker(s.watchdog / 2)
		defer t.Stop()
		feed = t.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ready:
			ready = nil
			s.notify(daemon.SdNotifyReady)
		case <-feed:
			s.notify(daemon.SdNotifyWatchdog)
		case c := <-s.changes:
			s.states[c.service] = c.state
			s.notify("STATUS=" + s.status())
		}
	}
}

// ready returns a channel that is closed when every service was ready once or
// readyWait has passed.
func (s *supervisor) ready(ctx context.Context) <-chan struct{} {
	ready := make(chan struct{})
	go func() {
		defer close(ready)
		late := time.After(readyWait)
		for _, service := range s.services {
			select {
			case <-service.Ready():
			case <-late:
				return
			case <-ctx.Done():
				return
			}
		}
	}()
	return ready
}

// status is one line about all services.
func (s *supervisor) status() string {
	var parts []string
	for i, state := range s.states {
		if state != "" {
			line, _, _ := strings.Cut(state, "\n") // a panic brings its stack
			parts = append(parts, s.services[i].String()+": "+line)
		}
	}
	return strings.Join(parts, "; ")
}

// report hands a new state of service i to the loop.
func (s *supervisor) report(ctx context.Context, i int, state string) {
	select {
	case s.changes <- change{i, state}:
	case <-ctx.Done():
	}
}

// notify tells the service manager. A service manager that does not listen is
// no reason to stop.
func (s *supervisor) notify(state string) {
	if err := s.tell(state); err != nil {
		s.log.Debug("service manager not told", "state", state, "err", err)
	}
}
