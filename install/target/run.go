package target

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/nixctl/nixctl/install/command"
)

//go:embed follow.sh
var followScript string

//go:embed launch.sh
var launchScript string

// ErrGone is wrapped by the error for a job that was running and of which the
// machine knows nothing any more: the machine was restarted in between.
var ErrGone = errors.New("the job is gone from the machine, which was restarted in between; begin anew")

// ErrOtherScript is wrapped by the error for a job whose ID was used before for
// another script.
var ErrOtherScript = errors.New("ran before with another script; use another run")

// ErrNoSystemd is wrapped by the error for a machine on which systemd does not run.
var ErrNoSystemd = errors.New("systemd does not run on this machine, so no job can outlive the connection; boot a NixOS installer")

// A Job is a script that runs on the machine as a transient systemd unit,
// independent of the connection.
type Job struct {
	ID     string // "RUN/STEP": letters, digits, and "_"; in STEP also "." and "-"
	Script string // for the machine's sh; may hold secrets: it is kept in a file of mode 0600
}

var validID = regexp.MustCompile(`^[A-Za-z0-9_]{1,64}/[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$`)

// Unit returns the name of the job's unit. RUN has no "-", so no two jobs share it.
func (j Job) Unit() string { return "nixctl-" + strings.Replace(j.ID, "/", "-", 1) + ".service" }

// Run runs job and calls out for each line that it prints; if the job runs already
// it is followed, and if it has ended its log is replayed. So a controller that
// died or was cut off calls Run again, and the script still runs once. A link that
// is lost meanwhile is dialled again until ctx is done or [Target.GiveUp] has passed;
// no byte of the log is lost or passed on twice. In both cases the job runs on.
//
// Lines hold up to 64 KiB and no control characters but tabs; after 64 MiB of log a
// line says where the rest is, and no more follow. The error of a job that fails is
// an [*ExitError].
//
// On the machine a job is /run/nixctl/RUN/STEP.log, .status ("exit 0", "killed
// oom-kill"), .PID.sh, its script, and .ran, made when it began, which tells the ID
// of the process that runs it and the name of its script.
func (t *Target) Run(ctx context.Context, job Job, out func(line string)) error {
	if !validID.MatchString(job.ID) {
		return fmt.Errorf("job %q: want RUN/STEP of letters, digits and %q", job.ID, "_")
	}
	f := &follower{job: job, set: t.set, out: out}
	f.lines.line = out
	err := t.persist(ctx, func(c *conn) error { return f.follow(ctx, c) })
	f.lines.end()
	if err != nil {
		return fmt.Errorf("%s: %w", t, err)
	}
	return nil
}

// Stop ends a running job with all its processes. [Target.Run] then returns an
// [*ExitError] whose Killed is set.
func (t *Target) Stop(ctx context.Context, id string) error {
	if !validID.MatchString(id) {
		return fmt.Errorf("job %q: want RUN/STEP of letters, digits and %q", id, "_")
	}
	_, err := t.Output(ctx, command.New("systemctl", "stop", Job{ID: id}.Unit()))
	return err
}

// A follower is what one call of Run knows of its job, across connections.
type follower struct {
	job     Job
	set     settings
	out     func(line string)
	lines   splitter
	offset  int64 // bytes of the log received
	log     tail
	started bool // the machine has said so: the script must not be sent again
}

// Write takes the log. What exceeds the limit is kept from out, because a job that
// repeats itself for ever would fill the disk of whoever keeps its lines.
func (f *follower) Write(p []byte) (int, error) {
	room := max(f.set.log-f.offset, 0)
	full := f.offset > f.set.log
	f.offset += int64(len(p))
	f.log.Write(p)
	f.lines.Write(p[:min(room, int64(len(p)))])
	if !full && f.offset > f.set.log {
		f.lines.end()
		f.out(fmt.Sprintf("... more than %d bytes; the rest is on the machine in %s.log", f.set.log, path.Join(f.set.run, f.job.ID)))
	}
	return len(p), nil
}

// follow runs follow.sh until the job has ended. What breaks it off with the
// connection still there, such as a kill for want of memory, passes.
func (f *follower) follow(ctx context.Context, c *conn) error {
	const attempts = 5
	for range attempts {
		v, err := f.attach(ctx, c)
		switch {
		case err != nil:
			return err
		case v.ended():
			return v.result(f)
		case v.word != "again":
			return v.refusal(f.job)
		}
	}
	return fmt.Errorf("job %q: following it was broken off %d times; it may go on on the machine", f.job.ID, attempts)
}

// attach starts or follows the job in one SSH session.
func (f *follower) attach(ctx context.Context, c *conn) (verdict, error) {
	size, stdin := strconv.Itoa(len(f.job.Script)), f.job.Script+"end\n"
	if f.started {
		size, stdin = "-", ""
	}
	run, step, _ := strings.Cut(f.job.ID, "/")
	line := command.New("sh", "-c", followScript, "nixctl", f.set.systemd, f.set.run+"/"+run, step, f.job.Unit(),
		strconv.FormatInt(f.offset, 10), size, strconv.Itoa(f.set.looks), launcher, launchScript).String()
	var said tail
	err := c.exec(ctx, line, strings.NewReader(stdin), f, &said)
	f.started = f.started || bytes.Contains(said, []byte("following\n"))
	if err != nil {
		return verdict{}, f.misfit(err, said)
	}
	return parseVerdict(said.bytes())
}

// launcher is the name of launch.sh on the machine. Another version of it has another
// one: its jobs may still run.
var launcher = fmt.Sprintf("launch-%x", sha256.Sum256([]byte(launchScript)))[:15]

// misfit explains an end of follow.sh itself, as on a machine without sh.
func (f *follower) misfit(err error, said tail) error {
	if errors.Is(err, ErrLost) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fmt.Errorf("job %q: follow: %w: %s", f.job.ID, err, clean(string(said.bytes())))
}

// A verdict is the last word of follow.sh.
type verdict struct {
	word string // "exit", "killed", "again", "gone", "other", "vanished", "nosystemd", "error"
	rest string
}

func (v verdict) ended() bool { return v.word == "exit" || v.word == "killed" }

// parseVerdict reads "verdict: exit 3" or "verdict: error TEXT".
func parseVerdict(said []byte) (verdict, error) {
	i := bytes.LastIndex(said, []byte("verdict: "))
	if i < 0 {
		return verdict{}, fmt.Errorf("%w: no verdict on the job", ErrLost)
	}
	last := strings.ReplaceAll(string(said[i+len("verdict: "):]), "\n", " ")
	word, rest, _ := strings.Cut(strings.TrimSpace(clean(last)), " ")
	return verdict{word, rest}, nil
}

// result is the error for an ended job, nil for exit status 0.
func (v verdict) result(f *follower) error {
	if v.word == "killed" {
		return &ExitError{Name: f.job.ID, Status: -1, Killed: v.rest, Output: f.log.bytes()}
	}
	status, err := strconv.Atoi(v.rest)
	if err != nil {
		return fmt.Errorf("job %q: exit status %q is no number", f.job.ID, v.rest)
	}
	if status == 0 {
		return nil
	}
	return &ExitError{Name: f.job.ID, Status: status, Output: f.log.bytes()}
}

// refusal is the error for a job that could not be followed to its end.
func (v verdict) refusal(j Job) error {
	switch v.word {
	case "gone":
		return fmt.Errorf("job %q: %w", j.ID, ErrGone)
	case "other":
		return fmt.Errorf("job %q: %w", j.ID, ErrOtherScript)
	case "nosystemd":
		return fmt.Errorf("job %q: %w", j.ID, ErrNoSystemd)
	case "vanished":
		return &ExitError{Name: j.ID, Status: -1, Killed: "it ended without a result"}
	}
	return fmt.Errorf("job %q: %s", j.ID, v.rest)
}
