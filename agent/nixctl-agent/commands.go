//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
)

// The exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// version is set by the linker in builds that know it, as nix/ does.
var version string

// A usageError is a mistake in the command line.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// streams are what a command reads and writes. Results go to out, all else to err.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// A command is one subcommand. Flags declares its flags and returns what runs
// it once they are read.
type command struct {
	name, about string
	flags       func(*flag.FlagSet) func(context.Context, streams) error
}

// commands are all subcommands, in the order in which help shows them.
func commands() []command {
	return []command{
		{"run", "announce this machine until stopped", runFlags},
		{"facts", "print what this machine is made of, as JSON", factsFlags},
		{"status", "show on this machine's screen who it is", statusFlags},
		{"version", "print the version", versionFlags},
	}
}

// run is the program: it runs one subcommand and returns the exit code.
func run(ctx context.Context, args []string, in io.Reader, out, errw io.Writer) int {
	err := dispatch(ctx, args, streams{in, out, errw})
	switch _, usage := err.(usageError); {
	case err == nil:
		return exitOK
	case usage:
		fmt.Fprintf(errw, "nixctl-agent: %v\nrun \"nixctl-agent help\" for what there is\n", err)
		return exitUsage
	default:
		fmt.Fprintf(errw, "nixctl-agent: %v\n", err)
		return exitFailed
	}
}

func dispatch(ctx context.Context, args []string, s streams) error {
	if len(args) == 0 {
		return usagef("no command given")
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		return help(s.out)
	}
	for _, c := range commands() {
		if c.name == args[0] {
			return c.run(ctx, args[1:], s)
		}
	}
	return usagef("unknown command %q", args[0])
}

// run reads the flags of c and runs it. No command takes arguments.
func (c command) run(ctx context.Context, args []string, s streams) error {
	fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	run := c.flags(fs)
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintf(s.out, "nixctl-agent %s: %s\n", c.name, c.about)
		fs.SetOutput(s.out)
		fs.PrintDefaults()
		return nil
	case err != nil:
		return usagef("%s: %w", c.name, err)
	case fs.NArg() > 0:
		return usagef("%s: unexpected argument %q", c.name, fs.Arg(0))
	}
	return run(ctx, s)
}

func help(w io.Writer) error {
	var b strings.Builder
	b.WriteString("usage: nixctl-agent COMMAND [FLAG]...\n\n")
	for _, c := range commands() {
		fmt.Fprintf(&b, "  %-10s %s\n", c.name, c.about)
	}
	b.WriteString("\n\"nixctl-agent COMMAND --help\" shows the flags of a command.\n" +
		"exit codes: 0 done, 1 failed, 2 usage\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func versionFlags(*flag.FlagSet) func(context.Context, streams) error {
	return func(_ context.Context, s streams) error {
		_, err := fmt.Fprintln(s.out, "nixctl-agent", programVersion())
		return err
	}
}

// programVersion is what the linker, else the module's version control told.
func programVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return strings.Trim(info.Main.Version, "()") // "(devel)" of a plain checkout
	}
	return "unknown"
}
