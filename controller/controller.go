// Package controller is the workstation side of nixctl: its commands, and the one
// place where discovery, verification and installation meet. Each command is a file
// that tells its story from top to bottom.
package controller

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/nixctl/nixctl/controller/terminal"
	"github.com/nixctl/nixctl/discovery/verify"
	"github.com/nixctl/nixctl/install"
	"github.com/nixctl/nixctl/install/disk"
	"github.com/urfave/cli/v2"
)

// Version is set by the linker for releases.
var Version = "0.1.0-dev"

// Exit codes, as each command's help lists them.
const (
	exitOK        = 0
	exitFailed    = 1
	exitUsage     = 2
	exitNotFound  = 3
	exitNotProved = 4 // the identity, before anything is done
	exitDisk      = 5
	exitStep      = 6
	exitNoBoot    = 7 // rebooted, but the system that came up is not proved
	exitLocked    = 8
	exitSignal    = 130
)

var (
	errUsage     = errors.New("usage")
	errNotFound  = errors.New("nothing found")
	errAmbiguous = errors.New("more than one machine")
	errNoBoot    = errors.New("the installed system is not proved")
)

// exitCode is the only place that turns an error into an exit code.
func exitCode(err error) int {
	var step *install.StepError
	var remote *remoteError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, context.Canceled):
		return exitSignal
	case errors.As(err, &remote):
		return remote.status
	case errors.Is(err, errUsage), errors.Is(err, errAmbiguous):
		return exitUsage
	case errors.Is(err, errNotFound):
		return exitNotFound
	case errors.Is(err, verify.ErrKeyMismatch):
		return exitNotProved
	case errors.Is(err, install.ErrLocked):
		return exitLocked
	case errors.Is(err, errNoBoot):
		return exitNoBoot
	case errors.Is(err, disk.ErrRefused):
		return exitDisk
	case errors.As(err, &step):
		return exitStep
	default:
		return exitFailed
	}
}

// A console is where a command reads and writes, and what the global flags say.
// stdout carries results, stderr everything else.
type console struct {
	in       io.Reader
	out, err io.Writer
	keys     string // the key store's folder
	verbose  bool
	noColor  bool

	unprivileged sync.Once // the note about raw sockets
}

// live returns a live display on w, nil if w is no terminal.
func (c *console) live(w io.Writer) *terminal.Live {
	if terminal.Detect(w, c.noColor).Interactive {
		return terminal.NewLive(w, c.noColor)
	}
	return nil
}

// ask asks the person at the terminal, and is an error where there is none.
func (c *console) ask(ctx context.Context, prompt string) (string, error) {
	return terminal.Ask(ctx, c.in, c.err, prompt)
}

// askSecret reads a line without echo from the terminal.
func (c *console) askSecret(ctx context.Context, prompt string) ([]byte, error) {
	return terminal.Secret(ctx, c.in, c.err, prompt+": ")
}

// note prints something for people that is not a result.
func (c *console) note(format string, args ...any) {
	for l := range strings.Lines(fmt.Sprintf(format, args...)) {
		fmt.Fprintln(c.err, terminal.Sanitize(strings.TrimSuffix(l, "\n")))
	}
}

// Main runs nixctl with args and returns its exit code. It never calls os.Exit, so
// that tests can call it too.
func Main(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	c := &console{in: stdin, out: stdout, err: stderr}
	app := newApp(c)
	args, err := flagsFirst(app, args)
	if err == nil {
		err = app.RunContext(ctx, args)
	}
	if ctx.Err() != nil && err != nil && !errors.Is(err, context.Canceled) {
		err = fmt.Errorf("%w (%w)", context.Canceled, err)
	}
	var told *remoteError
	if err != nil && !errors.As(err, &told) {
		fmt.Fprintln(stderr, "nixctl:", message(err))
	}
	return exitCode(err)
}

// message is the text of err for a person. Text in it that came from the network
// can't move the cursor.
func message(err error) string {
	var lines []string
	for l := range strings.Lines(err.Error()) {
		lines = append(lines, terminal.Sanitize(strings.TrimSuffix(l, "\n")))
	}
	return strings.Join(lines, "\n  ")
}

func newApp(c *console) *cli.App {
	app := &cli.App{
		Name:    "nixctl",
		Usage:   "find booted NixOS installers, prove who they are and install onto them",
		Version: Version,
		Reader:  c.in, Writer: c.out, ErrWriter: c.err,
		ExitErrHandler:       func(*cli.Context, error) {}, // exitCode decides, not cli
		EnableBashCompletion: true,
		HideHelpCommand:      true,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "keys", Usage: "the key store's `DIR`", EnvVars: []string{"NIXCTL_KEYS"}, DefaultText: "$XDG_CONFIG_HOME/nixctl/keys", Destination: &c.keys},
			&cli.BoolFlag{Name: "verbose", Usage: "print what runs on the machine", Destination: &c.verbose},
			&cli.BoolFlag{Name: "no-color", Usage: "print no colors (also: NO_COLOR)"},
		},
		Before: func(ctx *cli.Context) error {
			c.noColor = ctx.Bool("no-color")
			if c.keys == "" {
				dir, err := os.UserConfigDir()
				if err != nil {
					return fmt.Errorf("find the key store: %w; name it with --keys", err)
				}
				c.keys = dir + "/nixctl/keys"
			}
			return nil
		},
		Action: func(ctx *cli.Context) error {
			if ctx.NArg() > 0 {
				return fmt.Errorf("%w: there is no command %q; see nixctl --help", errUsage, ctx.Args().First())
			}
			return cli.ShowAppHelp(ctx)
		},
		Commands: []*cli.Command{
			discoverCommand(c), showCommand(c), installCommand(c), logsCommand(c), sshCommand(c), keysCommand(c), completionCommand(c),
		},
	}
	app.OnUsageError = usageError
	setUsageError(app.Commands)
	return app
}

// setUsageError marks the usage errors of all commands: cli v2 does not inherit it.
func setUsageError(commands []*cli.Command) {
	for _, c := range commands {
		c.OnUsageError = usageError
		setUsageError(c.Subcommands)
	}
}

func usageError(_ *cli.Context, err error, _ bool) error {
	return fmt.Errorf("%w: %w", errUsage, err)
}

// arguments checks how many arguments a command got, and returns them. At most
// less than 0 means any number.
func arguments(ctx *cli.Context, least, most int) ([]string, error) {
	args := ctx.Args().Slice()
	switch {
	case len(args) < least:
		return nil, fmt.Errorf("%w: nixctl %s needs %s; see nixctl %[2]s --help", errUsage, ctx.Command.FullName(), ctx.Command.ArgsUsage)
	case most >= 0 && len(args) > most:
		return nil, fmt.Errorf("%w: nixctl %s does not know what to do with %q", errUsage, ctx.Command.FullName(), args[most])
	}
	return args, nil
}
