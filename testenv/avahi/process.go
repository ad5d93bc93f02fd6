package avahi

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for what should happen within a few seconds.
const patience = 40 * time.Second

// A Process is a program that runs on a host.
type Process struct {
	t    testing.TB
	cmd  *exec.Cmd
	done chan struct{}

	mu    sync.Mutex
	lines []string
	next  chan struct{} // closed when a line comes
}

// Start runs a program on h until it ends, is stopped, or the test is over. What
// it writes to stdout is kept line by line; stderr goes to the test's log.
func (h *Host) Start(env []string, args ...string) *Process {
	h.t.Helper()
	p := &Process{t: h.t, done: make(chan struct{}), next: make(chan struct{})}
	p.cmd = exec.Command("ip", append([]string{"netns", "exec", h.Namespace}, args...)...)
	p.cmd.Env = append(append(os.Environ(), h.env...), env...)
	p.cmd.Stderr = h.t.Output()
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	go p.read(out)
	h.t.Cleanup(func() { p.cmd.Process.Kill(); <-p.done })
	return p
}

func (p *Process) read(out io.Reader) {
	defer close(p.done)
	for s := bufio.NewScanner(out); s.Scan(); {
		p.mu.Lock()
		p.lines = append(p.lines, s.Text())
		close(p.next)
		p.next = make(chan struct{})
		p.mu.Unlock()
	}
	p.cmd.Wait()
}

// Stop ends the program as systemd does and waits for it. The program must end well.
func (p *Process) Stop() {
	p.t.Helper()
	p.cmd.Process.Signal(syscall.SIGTERM)
	p.End()
}

// End waits until the program ends by itself, which must be without error.
func (p *Process) End() {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("%v still runs", p.cmd.Args)
	}
	if !p.cmd.ProcessState.Success() {
		p.t.Errorf("%v: %v", p.cmd.Args, p.cmd.ProcessState)
	}
}

// Mark is a place in what a program writes.
type Mark int

// Mark returns the place after the last line so far.
func (p *Process) Mark() Mark {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Mark(len(p.lines))
}

// Lines returns what the program wrote so far.
func (p *Process) Lines() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.lines...)
}

// Await waits for a line that contains all parts and returns it.
func (p *Process) Await(parts ...string) string {
	p.t.Helper()
	return p.AwaitAfter(0, parts...)
}

// AwaitAfter is Await for lines after a mark.
func (p *Process) AwaitAfter(m Mark, parts ...string) string {
	p.t.Helper()
	late := time.After(patience)
	for at := int(m); ; {
		p.mu.Lock()
		lines, next := p.lines[at:], p.next
		p.mu.Unlock()
		at += len(lines)
		for _, l := range lines {
			if containsAll(l, parts) {
				return l
			}
		}
		select {
		case <-next:
		case <-p.done:
			if p.Mark() == Mark(at) {
				p.t.Fatalf("%v ended before it wrote %q; it wrote %q", p.cmd.Args, parts, p.Lines())
			}
		case <-late:
			p.t.Fatalf("%v did not write %q; it wrote %q", p.cmd.Args, parts, p.Lines())
		}
	}
}

func containsAll(s string, parts []string) bool {
	for _, part := range parts {
		if !strings.Contains(s, part) {
			return false
		}
	}
	return true
}
