package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// A check is one thing that CI runs before the tests.
type check struct {
	name string
	env  []string
	argv []string
}

var checks = []check{
	{name: "vet", argv: []string{"go", "vet", "./..."}},
	{name: "vet for macOS", env: []string{"GOOS=darwin", "GOARCH=arm64", "CGO_ENABLED=0"}, argv: []string{"go", "vet", "./controller/...", "./discovery/...", "./install/...", "./nix/..."}},
	{name: "build for arm64", env: []string{"GOARCH=arm64", "CGO_ENABLED=0"}, argv: []string{"go", "build", "-o", os.DevNull, "./controller/...", "./agent/..."}},
	{name: "staticcheck", argv: []string{"go", "tool", "-modfile=testenv/tools.mod", "staticcheck", "./..."}},
}

// test runs all that CI runs. Short leaves out the tests that boot machines.
func test(ctx context.Context, args []string) error {
	short := slices.Equal(args, []string{"-short"})
	if len(args) > 0 && !short {
		return errUsage
	}
	if err := setup(ctx, nil); err != nil {
		return err
	}
	if err := formatted(ctx); err != nil {
		return err
	}
	for _, c := range checks {
		start := time.Now()
		cmd := exec.CommandContext(ctx, c.argv[0], c.argv[1:]...)
		cmd.Env = append(os.Environ(), c.env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", c.name, err, out)
		}
		say("ok   %s (%s)", c.name, time.Since(start).Round(time.Second/10))
	}
	return goTest(ctx, short)
}

// formatted reports files that gofmt would change.
func formatted(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "gofmt", "-l", "agent", "controller", "discovery", "install", "nix", "testenv").CombinedOutput()
	if err != nil || len(out) > 0 {
		return fmt.Errorf("gofmt: %w\n%s", errors.Join(err, errors.New("these files are not formatted")), out)
	}
	say("ok   gofmt")
	return nil
}

// maySkip are the tests that may, with the reason. All others have here, as root, what
// they ask for.
var maySkip = map[string]string{
	"github.com/nixctl/nixctl/install/disk.":               "hosts may have a kernel without GPT, device mapper or RAID: TestDisksInGuest runs all of them",
	"github.com/nixctl/nixctl/nix.TestFlakeRefOfSubfolder": "Debian 12 has nix 2.8, which does not know path:...?dir=",
}

// mustRun drops from skipped those that may.
func mustRun(skipped []string) []string {
	return slices.DeleteFunc(slices.Clone(skipped), func(name string) bool {
		for prefix := range maySkip {
			if strings.HasPrefix(name, prefix) {
				return true
			}
		}
		return false
	})
}

// goTest runs the unit tests of all packages, and then the end-to-end tests, which
// need the machine's cores for themselves.
func goTest(ctx context.Context, short bool) error {
	var t tally
	out, err := exec.CommandContext(ctx, "go", "list", "./...").Output()
	if err != nil {
		return fmt.Errorf("list packages: %w", err)
	}
	var unit, e2e []string
	for _, p := range strings.Fields(string(out)) {
		if strings.Contains(p, "/testenv/e2e") {
			e2e = append(e2e, p)
		} else {
			unit = append(unit, p)
		}
	}
	flags := []string{"-p", "1", "-timeout", "20m"}
	if short {
		flags = append(flags, "-short")
	}
	err = t.run(ctx, append(flags, unit...))
	if !short {
		err = errors.Join(err, t.run(ctx, append([]string{"-p", "1", "-parallel", "2", "-timeout", "60m"}, e2e...)))
	}
	if err == nil && t.failed > 0 {
		err = fmt.Errorf("%d tests failed", t.failed)
	}
	if names := mustRun(t.skipped); os.Geteuid() == 0 && !short && len(names) > 0 {
		err = errors.Join(err, fmt.Errorf("%d tests skipped that may not as root:\n  %s", len(names), strings.Join(names, "\n  ")))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testenv:", err)
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", t.passed, t.failed, len(t.skipped))
	if err != nil {
		os.Exit(1) // said above, so that the summary is the last line
	}
	return nil
}

// A tally counts the outcome of tests.
type tally struct {
	passed, failed int
	skipped        []string
}

// An event is a line of go test -json (cmd/test2json).
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
	Elapsed float64
}

// run runs go test with the race detector and shows each package's result as it
// comes, with the output of tests that failed.
func (t *tally) run(ctx context.Context, args []string) error {
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-json", "-race"}, args...)...)
	cmd.Stderr = os.Stderr
	cmd.WaitDelay = time.Minute
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	t.read(out)
	if err := cmd.Wait(); err != nil && t.failed == 0 {
		return fmt.Errorf("go test: %w", err)
	}
	return ctx.Err()
}

func (t *tally) read(r io.Reader) {
	output := make(map[string]*bytes.Buffer)
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		var e event
		if len(line) > 0 && json.Unmarshal(line, &e) == nil {
			t.take(e, output)
		}
		if err != nil {
			return
		}
	}
}

func (t *tally) take(e event, output map[string]*bytes.Buffer) {
	name := e.Package + "." + e.Test
	switch {
	case e.Action == "output" || e.Action == "build-output":
		if output[name] == nil {
			output[name] = new(bytes.Buffer)
		}
		output[name].WriteString(e.Output)
		if strings.Contains(e.Package, "/e2e") && strings.HasPrefix(strings.TrimSpace(e.Output), "---") {
			fmt.Print(e.Output)
		}
	case e.Test == "" && (e.Action == "pass" || e.Action == "skip"):
		say("%-4s %s %.1fs", map[string]string{"pass": "ok", "skip": "-"}[e.Action], e.Package, e.Elapsed)
	case e.Action == "fail" || e.Action == "build-fail":
		if e.Test != "" {
			t.failed++
		}
		say("FAIL %s %.1fs", strings.TrimSuffix(name, "."), e.Elapsed)
		if b := output[name]; b != nil {
			io.Copy(os.Stdout, b)
		}
		if e.Test == "" && t.failed == 0 {
			t.failed++ // it did not build, or died
		}
	case e.Test != "" && e.Action == "pass":
		t.passed++
		delete(output, name)
	case e.Test != "" && e.Action == "skip":
		t.skipped = append(t.skipped, name)
	}
}

func say(format string, args ...any) { fmt.Printf(format+"\n", args...) }
