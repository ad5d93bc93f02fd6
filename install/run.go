package install

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/nixctl/nixctl/install/command"
	"github.com/nixctl/nixctl/install/target"
	"github.com/nixctl/nixctl/nix"
)

// Kind says what an Event tells.
type Kind string

// The kinds of event. Every started step ends in done or failed.
const (
	Started  Kind = "started"
	Output   Kind = "output"
	Progress Kind = "progress"
	Done     Kind = "done"
	Failed   Kind = "failed"
	Proved   Kind = "proof" // the installed system came up; told by who looked for it
)

// An Event tells of the progress of a plan. As JSON it is one line of
// "nixctl install --json".
type Event struct {
	Time    time.Time `json:"time"`
	Kind    Kind      `json:"kind"`
	Step    int       `json:"step"` // counted from 1
	Name    string    `json:"name"`
	Line    string    `json:"line,omitempty"`    // of Output
	Sent    int64     `json:"sent,omitempty"`    // of Progress, in bytes
	Total   int64     `json:"total,omitempty"`   // of Progress, in bytes
	Seconds float64   `json:"seconds,omitempty"` // of Done and Failed: how long the step took
	Error   string    `json:"error,omitempty"`   // of Failed
}

// A StepError says which step of a plan failed.
type StepError struct {
	Step int // counted from 1
	Name string
	Unit string // the systemd unit that runs it on the machine; empty if none does
	Err  error
}

func (e *StepError) Error() string { return fmt.Sprintf("step %d (%s): %v", e.Step, e.Name, e.Err) }

// Unwrap returns the reason.
func (e *StepError) Unwrap() error { return e.Err }

// A Log takes what a run leaves behind on the workstation.
type Log interface {
	// Report is called for each event, from one goroutine at a time.
	Report(Event)
	// Keep stores a file that was fetched from the machine.
	Keep(name string, content []byte) error
}

// maxFetch bounds a file that is fetched from the machine, in bytes.
const maxFetch = 1 << 20

// Run carries out p on m and reports to log. It stops at the first step that fails,
// with a [*StepError]. While it runs no other run can work on the machine; if one does
// already, the error wraps [ErrLocked].
func (p *Plan) Run(ctx context.Context, m Machine, log Log) error {
	ctx, release, err := p.lease(ctx, m)
	if err != nil {
		return err
	}
	defer release()
	for i, s := range p.Steps {
		e := Event{Step: i + 1, Name: s.Name}
		report := func(kind Kind, set func(*Event)) {
			e := e
			e.Time, e.Kind = time.Now(), kind
			if set != nil {
				set(&e)
			}
			log.Report(e)
		}
		start := time.Now()
		report(Started, nil)
		err := lostLease(p.do(ctx, m, log, e, s.Action, report))
		if errors.Is(context.Cause(ctx), ErrLocked) {
			err = context.Cause(ctx)
		}
		took := time.Since(start).Seconds()
		if err != nil {
			report(Failed, func(e *Event) { e.Seconds, e.Error = took, err.Error() })
			return &StepError{Step: i + 1, Name: s.Name, Unit: p.unit(e, s.Action), Err: err}
		}
		report(Done, func(e *Event) { e.Seconds = took })
	}
	return nil
}

func (p *Plan) do(ctx context.Context, m Machine, log Log, e Event, a Action, report func(Kind, func(*Event))) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	line := func(s string) { report(Output, func(e *Event) { e.Line = s }) }
	progress := func(sent, total int64) { report(Progress, func(e *Event) { e.Sent, e.Total = sent, total }) }
	switch a := a.(type) {
	case Script:
		return m.Run(ctx, target.Job{ID: p.job(e), Script: p.leased(a.Text)}, line)
	case Upload:
		return m.Upload(ctx, a.Files, progress)
	case Send:
		return send(ctx, m, a.Closure, line, progress)
	case Fetch:
		content, err := m.ReadFile(ctx, a.Path, maxFetch)
		if err != nil {
			return err
		}
		return log.Keep(a.Name, content)
	case Reboot:
		return m.Reboot(ctx)
	default:
		return fmt.Errorf("unknown action %T", a)
	}
}

// job names the unit and the files of a step on the machine: "RUN/03-mount".
func (p *Plan) job(e Event) string {
	return fmt.Sprintf("%s/%02d-%s", p.ID, e.Step, strings.ReplaceAll(e.Name, " ", "-"))
}

// unit names the unit of a step that runs as one.
func (p *Plan) unit(e Event, a Action) string {
	if _, ok := a.(Script); !ok {
		return ""
	}
	return target.Job{ID: p.job(e)}.Unit()
}

// send asks which paths of c the new root lacks and sends those.
func send(ctx context.Context, m Machine, c *Closure, line func(string), progress func(sent, total int64)) error {
	ask := command.New(nix.MissingCommand(Root)...)
	ask.Stdin = strings.Join(c.Paths, "\n") + "\n"
	out, err := m.Output(ctx, ask)
	if err != nil {
		return fmt.Errorf("ask which store paths are missing: %w", err)
	}
	// What the machine answers only chooses among the paths of this closure.
	var missing []string
	var total int64
	answer := strings.Fields(string(out))
	for i, p := range c.Paths {
		if slices.Contains(answer, p) {
			missing, total = append(missing, p), total+c.Sizes[i]
		}
	}
	if len(missing) == 0 {
		return nil
	}
	r, w := io.Pipe()
	exported := make(chan error, 1)
	go func() {
		err := c.Export(ctx, missing, w)
		w.CloseWithError(err)
		exported <- err
	}()
	err = m.Pipe(ctx, command.New(nix.ImportCommand(Root)...), &counter{Reader: r, total: total, report: progress}, line)
	r.CloseWithError(errors.New("the machine stopped reading"))
	if err = errors.Join(err, <-exported); err != nil {
		return fmt.Errorf("send %d store paths: %w", len(missing), err)
	}
	return nil
}

// A counter reports how much was read, about every megabyte.
type counter struct {
	io.Reader
	sent, told int64
	total      int64
	report     func(sent, total int64)
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.sent += int64(n)
	if c.sent-c.told >= 1<<20 || err != nil {
		c.told = c.sent
		c.report(c.sent, max(c.sent, c.total))
	}
	return n, err
}

// String prints the plan for people: its steps, and the scripts as they will run.
func (p *Plan) String() string {
	var b strings.Builder
	for i, s := range p.Steps {
		fmt.Fprintf(&b, "%2d. %s: %s\n", i+1, s.Name, s.Detail)
		switch a := s.Action.(type) {
		case Script:
			for l := range strings.Lines(a.Text) {
				b.WriteString("      | " + l)
			}
		case Upload:
			for _, f := range a.Files {
				fmt.Fprintf(&b, "      + %s %04o %d bytes\n", f.Path, f.Mode.Perm(), f.Size)
			}
		}
	}
	return b.String()
}
