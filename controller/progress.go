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
}

// shownTail is how many lines of a failed step are repeated.
const shownTail = 15

func newProgress(c *console, asJSON bool) *progress {
	p := &progress{console: c, json: asJSON}
	if !asJSON {
		p.live = terminal.NewLive(c.err, c.noColor)
	}
	return p
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
		p.set(e, "")
	case install.Output:
		p.tail = append(p.tail, e.Line)
		p.tail = p.tail[max(0, len(p.tail)-shownTail):]
		if p.verbose {
			p.live.Print("     | " + e.Line)
		}
		p.set(e, e.Line)
	case install.Progress:
		p.set(e, p.rate(e))
	case install.Done:
		p.live.Print(fmt.Sprintf("  ok %-16s %s", e.Name, seconds(e.Seconds)))
		p.live.Set(nil)
	case install.Failed:
		p.live.Print(fmt.Sprintf("FAIL %-16s %s", e.Name, seconds(e.Seconds)))
		if !p.verbose {
			for _, l := range p.tail {
				p.live.Print("     | " + l)
			}
		}
		p.live.Set(nil)
	}
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

func (p *progress) set(e install.Event, doing string) {
	p.live.Set([]string{fmt.Sprintf("  .. %-16s %-8s %s", e.Name, terminal.Duration(time.Since(p.began)), doing)})
}

// result ends the display. Errors for people are printed by Main.
func (p *progress) result(proof *Proof, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.live != nil {
		p.live.Close()
	}
	if !p.json {
		return
	}
	r := struct {
		Kind  string `json:"kind"`
		Code  int    `json:"code"`
		Error string `json:"error,omitempty"`
		Proof *Proof `json:"proof,omitempty"`
	}{Kind: "result", Code: exitCode(err), Proof: proof}
	if err != nil {
		r.Error = err.Error()
	}
	p.line(r)
}

func seconds(s float64) string {
	return terminal.Duration(time.Duration(s * float64(time.Second)))
}
