package agent_test

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nixctl/nixctl/agent"
)

// A service notes when it was run and then does what it is made for.
type service struct {
	name  string
	ready chan struct{}
	run   func(ctx context.Context) error

	mu   sync.Mutex
	runs []time.Time
}

func (s *service) Run(ctx context.Context) error {
	s.mu.Lock()
	s.runs = append(s.runs, time.Now())
	s.mu.Unlock()
	return s.run(ctx)
}
func (s *service) Ready() <-chan struct{} { return s.ready }
func (s *service) String() string         { return s.name }

// offsets tells when s was run, counted from start.
func (s *service) offsets(start time.Time) []time.Duration {
	var out []time.Duration
	for _, t := range s.runs {
		out = append(out, t.Sub(start))
	}
	return out
}

func works(ctx context.Context) error { <-ctx.Done(); return nil }
func fails(context.Context) error     { return errors.New("no key") }
func panics(context.Context) error    { panic("boom") }

// states is a service manager that notes what it is told and when.
type states struct {
	start time.Time
	mu    sync.Mutex
	all   []string
	at    map[string][]time.Duration
}

func newStates() *states {
	return &states{start: time.Now(), at: make(map[string][]time.Duration)}
}

func (s *states) notify(state string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, state)
	s.at[state] = append(s.at[state], time.Since(s.start))
	return nil
}

func seconds(n ...int) []time.Duration {
	var out []time.Duration
	for _, s := range n {
		out = append(out, time.Duration(s)*time.Second)
	}
	return out
}

func TestRestartsOneServiceOnly(t *testing.T) {
	for _, tt := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"error", fails},
		{"panic", panics},
		{"early return", func(context.Context) error { return nil }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				bad := &service{name: "tailnet", run: tt.run}
				good := &service{name: "mdns", run: works}
				ctx, cancel := context.WithTimeout(t.Context(), 200*time.Second)
				defer cancel()
				(&agent.Agent{Services: []agent.Service{bad, good}, Notify: newStates().notify}).Run(ctx)
				if got, want := bad.offsets(start), seconds(0, 1, 3, 7, 15, 31, 63, 123, 183); !slices.Equal(got, want) {
					t.Errorf("tailnet was run at %v, want %v", got, want)
				}
				if got := good.offsets(start); len(got) != 1 {
					t.Errorf("mdns was run at %v, want once", got)
				}
			})
		})
	}
}

func TestBackOffStartsAgainAfterAGoodRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		runs := 0
		s := &service{name: "mdns", run: func(ctx context.Context) error {
			if runs++; runs == 3 {
				time.Sleep(time.Minute)
			}
			return errors.New("link lost")
		}}
		ctx, cancel := context.WithTimeout(t.Context(), 69*time.Second)
		defer cancel()
		(&agent.Agent{Services: []agent.Service{s}, Notify: newStates().notify}).Run(ctx)
		if got, want := s.offsets(start), seconds(0, 1, 3, 64, 66); !slices.Equal(got, want) {
			t.Errorf("runs at %v, want %v", got, want)
		}
	})
}

func TestReady(t *testing.T) {
	closed := make(chan struct{})
	close(closed)
	tests := []struct {
		name  string
		ready []chan struct{}
		want  []time.Duration
	}{
		{"no services", nil, seconds(0)},
		{"all at once", []chan struct{}{closed, closed}, seconds(0)},
		{"a dead one does not hold the boot", []chan struct{}{nil, closed}, seconds(5)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var services []agent.Service
				for _, r := range tt.ready {
					services = append(services, &service{name: "s", ready: r, run: works})
				}
				told := newStates()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				(&agent.Agent{Services: services, Notify: told.notify}).Run(ctx)
				if got := told.at["READY=1"]; !slices.Equal(got, tt.want) {
					t.Errorf("READY=1 at %v, want %v", got, tt.want)
				}
				if last := told.all[len(told.all)-1]; last != "STOPPING=1" {
					t.Errorf("last state is %q, want STOPPING=1", last)
				}
			})
		})
	}
}

func TestStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := newStates()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		(&agent.Agent{Services: []agent.Service{
			&service{name: "mdns", run: works},
			&service{name: "tailnet", run: panics},
		}, Notify: told.notify}).Run(ctx)
		status := slices.DeleteFunc(slices.Clone(told.all), func(s string) bool { return !strings.HasPrefix(s, "STATUS=") })
		if got, want := status[len(status)-1], "STATUS=mdns: running; tailnet: restarting in 1s: panic: boom"; got != want {
			t.Errorf("last status is %q, want %q", got, want)
		}
	})
}

func TestWatchdog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := newStates()
		hold := make(chan struct{})
		notify := func(state string) error {
			told.notify(state)
			if state == "WATCHDOG=1" && time.Since(told.start) >= 3*time.Second {
				<-hold // the loop hangs, so the watchdog must starve
			}
			return nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		go func() { time.Sleep(time.Minute); close(hold) }()
		a := &agent.Agent{Services: []agent.Service{&service{name: "mdns", run: works}}, Notify: notify, Watchdog: 2 * time.Second}
		a.Run(ctx)
		if got, want := told.at["WATCHDOG=1"], seconds(1, 2, 3); !slices.Equal(got[:min(3, len(got))], want) || len(got) > 4 {
			t.Errorf("WATCHDOG=1 at %v, want %v and silence while the loop hangs", got, want)
		}
	})
}

// TestSystemd talks to a real socket as systemd gives one, with a path and as an
// abstract address.
func TestSystemd(t *testing.T) {
	for _, tt := range []struct{ name, socket string }{
		{"path", filepath.Join(t.TempDir(), "notify")},
		{"abstract", "@nixctl-agent-test-" + filepath.Base(t.TempDir()) + t.Name()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: tt.socket})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			t.Setenv("NOTIFY_SOCKET", tt.socket)
			t.Setenv("WATCHDOG_USEC", "20000")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stopped := make(chan struct{})
			go func() { defer close(stopped); (&agent.Agent{}).Run(ctx) }()

			missing := map[string]bool{"READY=1": true, "WATCHDOG=1": true, "STOPPING=1": true}
			buf := make([]byte, 4096)
			for len(missing) > 0 {
				n, err := c.Read(buf)
				if err != nil {
					t.Fatal(err)
				}
				delete(missing, string(buf[:n]))
				if len(missing) == 1 {
					cancel()
				}
			}
			<-stopped
		})
	}
}
