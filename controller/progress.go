package controller

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nixctl/nixctl/controller/terminal"
	"github.com/nixctl/nixctl/install"
)

// A progress shows how an installation goes: as JSON lines on stdout, as a live
// display on a terminal, or as plain lines. Its methods may be called from any
// goroutine.
type progress struct {
	*console
	json bool

	mu    sync.Mutex
	live  *terminal.Live // nil with json
	tail  []string       // the last lines of output of the step
	began time.Time
	now   install.Event // the last of the step that runs
	end   chan struct{}
}

// shownTail is how many lines of a failed step are repeated.
const shownTail = 15

func newProgress(c *console, asJSON bool) *progress {
	p := &progress{console: c, json: asJSON}
	if !asJSON {
		p.live = terminal.NewLive(c.err, c.noColor)
		p.end = make(chan struct{})
		go p.tick()
	}
	return p
}

// tick keeps the clock of a step going that says nothing.
func (p *progress) tick() {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-p.end:
			return
		case <-t.C:
			p.mu.Lock()
			if p.running() { // else the line may be that of a question
				p.draw()
			}
			p.mu.Unlock()
		}
	}
}

// stage tells of something that is no step of the plan.
func (p *progress) stage(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.json {
		p.live.Print(strings.Split(fmt.Sprintf(format, args...), "\n")...)
	}
}

func (p *progress) line(v any) {
	if b, err := json.Marshal(v); err == nil {
		fmt.Fprintf(p.out, "%s\n", b)
	}
}

// event shows an event of the plan.
func (p *progress) event(e install.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.json {
		p.line(e)
		return
	}
	switch e.Kind {
	case install.Started:
		p.tail, p.began = nil, time.Now()
	case install.Output:
		p.tail = append(p.tail, e.Line)
		p.tail = p.tail[max(0, len(p.tail)-shownTail):]
		if p.verbose {
			p.live.Print("     | " + e.Line)
		}
	case install.Done:
		p.live.Print(fmt.Sprintf("  ok %-16s %s", e.Name, seconds(e.Seconds)))
	case install.Failed:
		p.live.Print(fmt.Sprintf("FAIL %-16s %s", e.Name, seconds(e.Seconds)))
		if !p.verbose {
			for _, l := range p.tail {
				p.live.Print("     | " + l)
			}
		}
	}
	p.now = e
	p.draw()
}

// rate tells bytes, share and the time that is left.
func (p *progress) rate(e install.Event) string {
	s := terminal.Bytes(e.Sent)
	if e.Total > 0 {
		s += fmt.Sprintf(" of %s, %d%%", terminal.Bytes(e.Total), e.Sent*100/e.Total)
		if passed := time.Since(p.began); e.Sent > 0 && passed > time.Second {
			left := time.Duration(float64(passed) * float64(e.Total-e.Sent) / float64(e.Sent))
			s += ", " + terminal.Duration(left) + " left"
		}
	}
	return s
}

// running reports whether the last event was one of a step that runs.
func (p *progress) running() bool {
	return p.now.Kind == install.Started || p.now.Kind == install.Output || p.now.Kind == install.Progress
}

// draw shows the step that runs, if one does.
func (p *progress) draw() {
	if !p.running() {
		p.live.Set(nil)
		return
	}
	doing := p.now.Line
	if p.now.Kind == install.Progress {
		doing = p.rate(p.now)
	}
	p.live.Set([]string{fmt.Sprintf("  .. %-16s %-8s %s", p.now.Name, terminal.Duration(time.Since(p.began)), doing)})
}

// result ends the display. Errors for people are printed by Main.
func (p *progress) result(proof *Proof, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.json {
		close(p.end)
		p.live.Close()
		return
	}
	p.line(newResult(proof, err))
}

// A result is the last line of --json, and of a journal.
type result struct {
	Time  time.Time `json:"time"`
	Kind  string    `json:"kind"`
	Code  int       `json:"code"`
	Error string    `json:"error,omitempty"`
	Proof *Proof    `json:"proof,omitempty"`
}

func newResult(proof *Proof, err error) result {
	r := result{Time: time.Now(), Kind: "result", Code: exitCode(err), Proof: proof}
	if err != nil {
		r.Error = err.Error()
	}
	return r
}

func seconds(s float64) string {
	return terminal.Duration(time.Duration(s * float64(time.Second)))
}
