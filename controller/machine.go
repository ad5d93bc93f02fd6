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
}

func (o *loginOptions) flags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "identity", Aliases: []string{"i"}, Usage: "log in with the private key `FILE` (repeatable)", Destination: &o.Identity},
	}
}

// login collects the keys that are offered to a machine. Passphrases are asked for
// here, and once. name and addr are what ~/.ssh/config may know the machine by.
func (o *loginOptions) login(ctx context.Context, c *console, name, addr string) (*login.Login, error) {
	l, err := login.New(ctx, login.Config{Host: name, Address: addr, User: "root", Identities: o.Identity.Value(), KeyStore: c.keys, Ask: c.askSecret})
	if err != nil {
		return nil, err
	}
	if l.ProxyJump != "" {
		c.note("nixctl: ~/.ssh/config has ProxyJump %s for %q, which is not used: machines are reached directly", l.ProxyJump, name)
	}
	if c.verbose {
		for _, n := range l.Notes {
			c.note("nixctl: %s", n)
		}
	}
	return l, nil
}

// connect logs in to a verified machine.
func connect(ctx context.Context, inst *verify.Installer, l *login.Login) (*target.Target, error) {
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

// A reached machine is found, verified, logged in to and asked for its facts: what
// every command that acts on one machine begins with.
type reached struct {
	survey.Machine
	*target.Target
	facts facts.Facts
	login *login.Login
}

func reach(ctx context.Context, c *console, find *findOptions, log *loginOptions, name string) (*reached, error) {
	m, err := find.find(ctx, c, name)
	if err != nil {
		return nil, err
	}
	r := &reached{Machine: m}
	if r.login, err = log.login(ctx, c, name, m.Installer.Addr().Addr().String()); err != nil {
		return nil, err
	}
	if r.Target, err = connect(ctx, m.Installer, r.login); err != nil {
		return nil, err
	}
	if r.facts, err = inspect(ctx, r.Target); err == nil {
		err = isMeant(r.facts, find.On)
	}
	if err != nil {
		r.Close()
		return nil, err
	}
	r.Pin(r.facts.BootID) // twins share a host key: after a lost link it must be this machine, in this boot
	return r, nil
}
