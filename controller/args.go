package controller

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// flagsFirst moves the flags of a command in front of its arguments, because
// urfave/cli v2 stops looking for flags at the first argument: without it,
// "nixctl install host --disk /dev/sda" would silently ignore the disk.
// Everything after "--" is left as it is.
func flagsFirst(app *cli.App, args []string) ([]string, error) {
	if len(args) == 0 || slices.Contains(args, "--generate-bash-completion") {
		return args, nil
	}
	at, commands, flags := 1, app.Commands, app.Flags
	for at < len(args) {
		if strings.HasPrefix(args[at], "-") {
			if takesValue(flags, args[at]) {
				at++
			}
			at++
			continue
		}
		i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(args[at]) })
		if i < 0 {
			break
		}
		at, flags, commands = at+1, commands[i].Flags, commands[i].Subcommands
		if len(commands) == 0 {
			tail, err := reorder(flags, args[at:])
			return slices.Concat(args[:at:at], tail), err
		}
	}
	return args, nil
}

// takesValue reports whether the flag arg is followed by its value.
func takesValue(flags []cli.Flag, arg string) bool {
	for _, f := range flags {
		if d, ok := f.(cli.DocGenerationFlag); ok && d.TakesValue() && slices.Contains(f.Names(), strings.TrimLeft(arg, "-")) {
			return true
		}
	}
	return false
}

func reorder(flags []cli.Flag, args []string) ([]string, error) {
	var front, rest []string
	for len(args) > 0 {
		a := args[0]
		args = args[1:]
		switch {
		case a == "--":
			return slices.Concat(front, []string{"--"}, rest, args), nil
		case len(a) < 2 || a[0] != '-':
			rest = append(rest, a)
		default:
			front = append(front, a)
			if !takesValue(flags, a) {
				continue
			}
			if len(args) == 0 {
				// In front of the arguments it would swallow the first of them.
				return nil, fmt.Errorf("%w: flag needs a value: %s", errUsage, a)
			}
			front = append(front, args[0])
			args = args[1:]
		}
	}
	return append(front, rest...), nil
}
