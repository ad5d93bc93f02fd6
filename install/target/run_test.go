package target

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// numbers is a script that prints the lines 1 to n, and what Run should tell.
func numbers(n int) (script string, want []string) {
	for i := 1; i <= n; i++ {
		want = append(want, fmt.Sprintf("line %d", i))
	}
	return fmt.Sprintf("i=0; while [ $i -lt %d ]; do i=$((i+1)); echo line $i; done", n), want
}

func equal(t *testing.T, got, want []string) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Fatalf("line %d is %q, want %q", i, got[i], want[i])
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%d lines, want %d", len(got), len(want))
	}
}

// TestRun uses both shells that a machine's sh may be.
func TestRun(t *testing.T) {
	for _, shell := range []string{"/bin/dash", "/bin/bash"} {
		t.Run(shell, func(t *testing.T) {
			if _, err := os.Stat(shell); err != nil {
				t.Skip("needs " + shell)
			}
			m := newMachine(t, shell)
			tg := m.target(t, m.addr)
			script := `echo start; echo oops >&2; case $PATH in */bin:/usr/sbin:*) echo path ;; esac; umask; cat; echo "it's" "$(printf '\033[1mbold\033[0m')"; exit 3`
			var got []string
			err := tg.Run(t.Context(), Job{ID: "0001a2/03-install", Script: script}, func(l string) { got = append(got, l) })
			equal(t, got, []string{"start", "oops", "path", "0022", "it's bold"})
			var exit *ExitError
			if !errors.As(err, &exit) || exit.Status != 3 || exit.Name != "0001a2/03-install" {
				t.Fatalf("error %v, want exit status 3", err)
			}
			if !strings.Contains(err.Error(), "it's bold") || !bytes.Contains(exit.Output, []byte("oops\n")) {
				t.Errorf("error %v with output %q does not show the log's end", err, exit.Output)
			}
			for name, mode := range map[string]os.FileMode{"": 0o700, "/03-install.*.sh": 0o600, "/03-install.log": 0o600, "/03-install.status": 0o600} {
				found, _ := filepath.Glob(m.dir + "/jobs/0001a2" + name)
				if len(found) != 1 {
					t.Fatalf("%q: %q, want one", name, found)
				}
				if info, err := os.Stat(found[0]); err != nil || info.Mode().Perm() != mode {
					t.Errorf("%q: %v, %v, want mode %o", name, info, err, mode)
				}
			}
		})
	}
}

func TestRunOnce(t *testing.T) {
	m := newMachine(t, "/bin/sh")
	script, want := numbers(3)
	job := Job{ID: "r/s", Script: script + "; echo x >>" + m.dir + "/count"}
	for range 3 { // each as another controller
		var got []string
		if err := m.target(t, m.addr).Run(t.Context(), job, func(l string) { got = append(got, l) }); err != nil {
			t.Fatal(err)
		}
		equal(t, got, want)
	}
	if count, _ := os.ReadFile(m.dir + "/count"); string(count) != "x\n" {
		t.Errorf("ran %d times, want once", len(count)/2)
	}
	job.Script += "\n"
	if err := m.target(t, m.addr).Run(t.Context(), job, nil); !errors.Is(err, ErrOtherScript) {
		t.Errorf("another script for the same job: %v, want ErrOtherScript", err)
	}
}

func TestRunTogether(t *testing.T) {
	m := newMachine(t, "/bin/sh")
	script, want := numbers(500)
	done := make(chan error)
	for range 4 {
		tg := m.target(t, m.addr)
		go func() {
			var got []string
			err := tg.Run(t.Context(), Job{ID: "r/s", Script: script}, func(l string) { got = append(got, l) })
			if err == nil && strings.Join(got, ",") != strings.Join(want, ",") {
				err = fmt.Errorf("%d lines, want %d", len(got), len(want))
			}
			done <- err
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestRunLostLink(t *testing.T) {
	m := newMachine(t, "/bin/sh")
	l := newLink(t, m.addr, func(l *link) { l.down, l.times = 30<<10, 3 })
	script, want := numbers(10000)
	var got []string
	if err := m.target(t, l.addr()).Run(t.Context(), Job{ID: "r/s", Script: script}, func(l string) { got = append(got, l) }); err != nil {
		t.Fatal(err)
	}
	equal(t, got, want)
	if l.times != 0 {
		t.Errorf("%d cuts did not happen", l.times)
	}
}

// TestRunSecondController: the first is killed in the middle, the job waits on a
// FIFO until another one follows it.
func TestRunSecondController(t *testing.T) {
	m := newMachine(t, "/bin/sh")
	fifo := m.dir + "/fifo"
	if out, err := exec.Command("mkfifo", fifo).CombinedOutput(); err != nil {
		t.Fatalf("mkfifo: %s", out)
	}
	job := Job{ID: "r/s", Script: "echo one; echo two; cat " + fifo + "; echo four"}
	ctx, die := context.WithCancel(t.Context())
	err := m.target(t, m.addr).Run(ctx, job, func(l string) {
		if l == "two" {
			die()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("first controller: %v, want context.Canceled", err)
	}
	var got []string
	err = m.target(t, m.addr).Run(t.Context(), job, func(l string) {
		if got = append(got, l); l == "two" {
			write(t, fifo, []byte("three\n"), 0)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, got, []string{"one", "two", "three", "four"})
	if starts, _ := os.ReadFile(m.dir + "/units/starts"); string(starts) != "start\n" {
		t.Errorf("units started: %q, want one", starts)
	}
}

// TestRunPrograms: each program started costs 85 ms on a slow machine. A pause
// depends on chance, and what the first job of a run makes is there for the next.
func TestRunPrograms(t *testing.T) {
	m := newMachine(t, "/bin/sh")
	tg := m.target(t, m.addr)
	if err := tg.Run(t.Context(), Job{ID: "r/first", Script: "true"}, nil); err != nil {
		t.Fatal(err)
	}
	// Each program that follow.sh or launch.sh start is noted, by what /proc tells of
	// its parent.
	const note = `#!/bin/sh
case $(/usr/bin/tr '\0' ' ' </proc/$PPID/cmdline) in
*verdict*) echo %[1]s >>%[2]s ;;
*systemd-run*) ;;
*/launch-*) echo %[1]s >>%[2]s ;;
esac
exec %[3]s "$@"
`
	for _, tool := range []string{"cat", "chmod", "cmp", "cp", "cut", "flock", "head", "ln", "mkdir", "mv", "rm", "sed", "stat", "tail", "touch", "wc"} {
		path, err := exec.LookPath(tool)
		if err != nil {
			t.Fatal(err)
		}
		write(t, m.dir+"/bin/"+tool, fmt.Appendf(nil, note, tool, m.dir+"/programs", path), 0o755)
	}
	if err := tg.Run(t.Context(), Job{ID: "r/second", Script: "exit 0"}, nil); err != nil {
		t.Fatal(err)
	}
	if programs, _ := os.ReadFile(m.dir + "/programs"); string(programs) != "head\ntail\n" {
		t.Errorf("programs started: %q, want head and tail", programs)
	}
}

// TestRunLongLog: a job that never stops printing does not fill the workstation.
func TestRunLongLog(t *testing.T) {
	m := newMachine(t, "/bin/sh")
	tg := m.target(t, m.addr)
	tg.set.log = 20
	script, _ := numbers(10000)
	var got []string
	err := tg.Run(t.Context(), Job{ID: "r/s", Script: script + "; exit 4"}, func(l string) { got = append(got, l) })
	equal(t, got, []string{"line 1", "line 2", "line 3", "... more than 20 bytes; the rest is on the machine in " + m.dir + "/jobs/r/s.log"})
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Status != 4 || !strings.Contains(err.Error(), "line 10000") {
		t.Errorf("%v, want exit status 4 and the end of the log", err)
	}
}

// TestRunTwoScripts: the second controller looks whether the job was begun before the
// first begins it, and sends another script. Its head waits until then.
func TestRunTwoScripts(t *testing.T) {
	m := newMachine(t, "/bin/sh")
	first, second := Job{ID: "r/s", Script: "echo first"}, Job{ID: "r/s", Script: "echo second"}
	head, err := exec.LookPath("head")
	if err != nil {
		t.Fatal(err)
	}
	write(t, m.dir+"/bin/head", fmt.Appendf(nil, `#!/bin/sh
if [ "$2" = %d ]; then
	: >%[2]s/waits
	until [ -s %[2]s/jobs/r/s.status ] && [ ! -d %[2]s/units/%[3]s ]; do sleep 0.05; done
fi
exec %[4]s "$@"
`, len(second.Script), m.dir, first.Unit(), head), 0o755)
	done := make(chan error)
	late := m.target(t, m.addr)
	go func() {
		done <- late.Run(t.Context(), second, func(l string) { t.Errorf("the second one is told %q", l) })
	}()
	await(t, func() bool { _, err := os.Stat(m.dir + "/waits"); return err == nil })
	var got []string
	if err := m.target(t, m.addr).Run(t.Context(), first, func(l string) { got = append(got, l) }); err != nil {
		t.Error(err)
	}
	equal(t, got, []string{"first"})
	if err := <-done; !errors.Is(err, ErrOtherScript) {
		t.Errorf("second script: %v, want ErrOtherScript", err)
	}
	if log, _ := os.ReadFile(m.dir + "/jobs/r/s.log"); string(log) != "first\n" {
		t.Errorf("log %q, want that of the first script alone", log)
	}
	if left, _ := filepath.Glob(m.dir + "/jobs/r/*.sh"); len(left) != 1 {
		t.Errorf("%q are left, want the script that ran", left)
	}
}

func TestStop(t *testing.T) {
	m := newMachine(t, "/bin/sh")
	tg := m.target(t, m.addr)
	var stopped atomic.Value
	err := tg.Run(t.Context(), Job{ID: "r/s", Script: "echo running; exec sleep 600"}, func(l string) {
		go func() {
			if err := tg.Stop(t.Context(), "r/s"); err != nil {
				stopped.Store(err)
			}
		}()
	})
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Killed != "signal" {
		t.Errorf("%v, want an end from outside by a signal", err)
	}
	if err := stopped.Load(); err != nil {
		t.Error(err)
	}
}

func TestRunRefusals(t *testing.T) {
	m := newMachine(t, "/bin/sh")
	tg := m.target(t, m.addr)
	for _, id := range []string{"", "a", "a/b/c", "../b", "a/../b", "a-b/c", "a/-b", "a/.b", "a/b c", "a/b\n"} {
		if err := tg.Run(t.Context(), Job{ID: id, Script: "true"}, nil); err == nil {
			t.Errorf("job %q was run", id)
		}
		if err := tg.Stop(t.Context(), id); err == nil {
			t.Errorf("job %q was stopped", id)
		}
	}
	f := &follower{job: Job{ID: "r/unknown"}, set: m.set, started: true}
	if err := tg.once(t.Context(), func(c *conn) error { return f.follow(t.Context(), c) }); !errors.Is(err, ErrGone) {
		t.Errorf("following a job that is not there: %v, want ErrGone", err)
	}
	// A machine that lost the result, as after the kill of everything at once. No
	// process has an ID above 1<<22, the kernel's limit.
	if err := os.MkdirAll(m.dir+"/jobs/r", 0o700); err != nil {
		t.Fatal(err)
	}
	tg.set.looks = 1
	write(t, m.dir+"/jobs/r/killed.ran", fmt.Appendf(nil, "%d %s/jobs/r/killed.1.sh\n", 1<<22+1, m.dir), 0o600)
	write(t, m.dir+"/jobs/r/killed.1.sh", []byte("true"), 0o600)
	write(t, m.dir+"/jobs/r/killed.log", []byte("last words\n"), 0o600)
	var exit *ExitError
	if err := tg.Run(t.Context(), Job{ID: "r/killed", Script: "true"}, func(string) {}); !errors.As(err, &exit) || exit.Killed == "" {
		t.Errorf("a job without a result: %v, want an end from outside", err)
	}
	if err := os.Remove(m.dir + "/systemd"); err != nil {
		t.Fatal(err)
	}
	if err := tg.Run(t.Context(), Job{ID: "r/new", Script: "true"}, nil); !errors.Is(err, ErrNoSystemd) {
		t.Errorf("without systemd: %v, want ErrNoSystemd", err)
	}
}

// TestCutScript: what arrives of a script over a link that breaks must not run.
func TestCutScript(t *testing.T) {
	m := newMachine(t, "/bin/sh")
	l := newLink(t, m.addr, nil)
	script := "echo ran >" + m.dir + "/ran # " + strings.Repeat("x", 4<<20) + "\nexit 0"
	l.up, l.times = 1<<20, 2
	var got []string
	if err := m.target(t, l.addr()).Run(t.Context(), Job{ID: "r/s", Script: script}, func(l string) { got = append(got, l) }); err != nil {
		t.Fatal(err)
	}
	if l.cuts != 2 {
		t.Errorf("%d cuts, want 2", l.cuts)
	}
	if starts, _ := os.ReadFile(m.dir + "/units/starts"); string(starts) != "start\n" {
		t.Errorf("units started: %q, want one", starts)
	}
	if left, _ := filepath.Glob(m.dir + "/jobs/r/*.sh"); len(left) > 1 {
		t.Errorf("left behind beside the script: %v", left)
	}
}

func TestParseVerdict(t *testing.T) {
	for _, tt := range []struct {
		said string
		want verdict
		ok   bool
	}{
		{"following\nverdict: exit 0\n", verdict{"exit", "0"}, true},
		{"verdict: noise\nverdict: killed oom-kill\n", verdict{"killed", "oom-kill"}, true},
		{"verdict: again\n", verdict{"again", ""}, true},
		{"verdict: error no \x1b[1mspace\nleft\n", verdict{"error", "no space left"}, true},
		{"tail: broken\n", verdict{}, false},
	} {
		got, err := parseVerdict([]byte(tt.said))
		if got != tt.want || (err == nil) != tt.ok {
			t.Errorf("%q: %+v, %v, want %+v", tt.said, got, err, tt.want)
		}
	}
}
