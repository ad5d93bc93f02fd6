package controller

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/nixctl/nixctl/controller/terminal"
	"github.com/nixctl/nixctl/install"
	"github.com/urfave/cli/v2"
)

type logsOptions struct {
	Follow bool
	JSON   bool
}

func logsCommand(c *console) *cli.Command {
	var o logsOptions
	return &cli.Command{
		Name:      "logs",
		Usage:     "print the log of the last installation of a host",
		ArgsUsage: "NAME",
		Description: `Prints what the newest run for the host NAME did, with the output of its steps.

Exit codes: 0 done; 1 failed; 2 usage; 3 no run of that name; 130 interrupted.`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on until the run ends", Destination: &o.Follow},
			&cli.BoolFlag{Name: "json", Usage: "print the events as \"install --json\" does", Destination: &o.JSON},
		},
		Action: func(ctx *cli.Context) error {
			args, err := arguments(ctx, 1, 1)
			if err != nil {
				return err
			}
			return logs(ctx.Context, c, &o, args[0])
		},
	}
}

func logs(ctx context.Context, c *console, o *logsOptions, host string) error {
	if filepath.Base(host) != host || host == "." || host == ".." {
		return fmt.Errorf("%w: %q is no host name", errUsage, host)
	}
	dir, err := latestRun(host)
	if err != nil {
		return err
	}
	file, err := os.Open(filepath.Join(dir, "events.jsonl"))
	if err != nil {
		return fmt.Errorf("read the log of %q: %w", host, err)
	}
	defer file.Close()
	c.note("# %s", dir)
	lines := bufio.NewReader(&follower{ctx: ctx.Done(), file: file, more: func() bool { return o.Follow && running(dir) }})
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			printLog(c.out, line, o.JSON)
		}
		if errors.Is(err, io.EOF) {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
	}
}

// printLog prints one event of a journal.
func printLog(w io.Writer, line []byte, asJSON bool) {
	var e install.Event
	if asJSON || json.Unmarshal(line, &e) != nil {
		w.Write(line)
		return
	}
	at := e.Time.Local().Format("15:04:05")
	switch e.Kind {
	case install.Output:
		fmt.Fprintf(w, "%s | %s\n", at, terminal.Sanitize(e.Line))
	case install.Started:
		fmt.Fprintf(w, "%s %d. %s\n", at, e.Step, e.Name)
	default:
		fmt.Fprintf(w, "%s %d. %s %s after %s %s\n", at, e.Step, e.Name, e.Kind, seconds(e.Seconds), terminal.Sanitize(e.Error))
	}
}

// running reports whether the run in dir still holds the lock of its host.
func running(dir string) bool {
	lock, err := os.Open(filepath.Join(filepath.Dir(dir), "lock"))
	if err != nil {
		return false
	}
	defer lock.Close()
	return syscall.Flock(int(lock.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) != nil
}

// A follower reads a file that grows, until there is no more to come.
type follower struct {
	ctx  <-chan struct{}
	file io.Reader
	more func() bool
}

func (f *follower) Read(b []byte) (int, error) {
	for {
		more := f.more() // before the read: what is written until the end is read yet
		n, err := f.file.Read(b)
		if n > 0 || err != nil && !errors.Is(err, io.EOF) || !more {
			return n, err
		}
		select {
		case <-f.ctx:
			return 0, io.EOF
		case <-time.After(200 * time.Millisecond):
		}
	}
}
