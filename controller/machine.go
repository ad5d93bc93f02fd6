package controller

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/nixctl/nixctl/agent/facts"
	"github.com/nixctl/nixctl/controller/login"
	"github.com/nixctl/nixctl/discovery/survey"
	"github.com/nixctl/nixctl/discovery/verify"
	"github.com/nixctl/nixctl/install/command"
	"github.com/nixctl/nixctl/install/target"
	"github.com/urfave/cli/v2"
)

// loginOptions say how to log in to a verified machine.
type loginOptions struct {
	Identity cli.StringSlice
	User     string
}

func (o *loginOptions) flags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "identity", Aliases: []string{"i"}, Usage: "log in with the private key `FILE` (repeatable)", Destination: &o.Identity},
	}
}

// connect logs in to a verified machine. name is what ~/.ssh/config may know it by.
func (o *loginOptions) connect(ctx context.Context, c *console, inst *verify.Installer, name string) (*target.Target, error) {
	l, err := login.New(ctx, login.Config{Host: name, Address: inst.Addr().Addr().String(), Identities: o.Identity.Value(), KeyStore: c.keys, Ask: c.askSecret})
	if err != nil {
		return nil, err
	}
	if c.verbose {
		for _, n := range l.Notes {
			c.note("nixctl: %s", n)
		}
	}
	t, err := target.Dial(ctx, inst, l.User, l.Methods...)
	if err != nil {
		return nil, l.Explain(err)
	}
	return t, nil
}

// inspect asks a machine for its facts.
func inspect(ctx context.Context, t *target.Target) (facts.Facts, error) {
	out, err := t.Output(ctx, command.Command{Argv: []string{"sh", "-s"}, Stdin: facts.Script})
	if err != nil {
		return facts.Facts{}, fmt.Errorf("ask the machine for its facts: %w", err)
	}
	return facts.Parse(out)
}

// isMeant checks on the logged-in machine what --on named and discovery could only
// claim.
func isMeant(f facts.Facts, on string) error {
	if serial, ok := strings.CutPrefix(on, "serial:"); ok && f.Serial != serial {
		return fmt.Errorf("%w: the machine that claims %q has the serial %q", errNotFound, on, f.Serial)
	}
	if mac, err := net.ParseMAC(on); err == nil && !hasMAC(f, mac.String()) {
		return fmt.Errorf("%w: the machine that answered for %q has no such network card", errNotFound, on)
	}
	return nil
}

func hasMAC(f facts.Facts, mac string) bool {
	return slices.ContainsFunc(f.NICs, func(n facts.NIC) bool { return strings.EqualFold(n.MAC, mac) })
}

// reach finds the machine, logs in and asks for its facts: what every command that
// acts on one machine begins with.
func reach(ctx context.Context, c *console, find *findOptions, log *loginOptions, name, on string) (survey.Machine, *target.Target, facts.Facts, error) {
	m, err := find.find(ctx, c, name, on)
	if err != nil {
		return m, nil, facts.Facts{}, err
	}
	t, err := log.connect(ctx, c, m.Installer, name)
	if err != nil {
		return m, nil, facts.Facts{}, err
	}
	f, err := inspect(ctx, t)
	if err == nil {
		err = isMeant(f, on)
	}
	if err != nil {
		t.Close()
		return m, nil, f, err
	}
	return m, t, f, nil
}
