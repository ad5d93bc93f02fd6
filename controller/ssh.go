package controller

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"

	"github.com/nixctl/nixctl/controller/keystore"
	"github.com/nixctl/nixctl/controller/login"
	"github.com/nixctl/nixctl/discovery/verify"
	"github.com/urfave/cli/v2"
)

type sshOptions struct {
	findOptions
	loginOptions
}

func sshCommand(c *console) *cli.Command {
	var o sshOptions
	return &cli.Command{
		Name:      "ssh",
		Usage:     "log in to a verified machine with OpenSSH",
		ArgsUsage: "NAME [-- CMD...]",
		Description: `Finds and verifies the machine, then runs ssh with its proved key pinned: no
question is asked and no other machine is logged in to.

Exit codes: those of ssh; and 2 usage; 3 not found; 4 identity not proved.`,
		Flags: slices.Concat(o.findOptions.flags(), o.oneFlags(), o.loginOptions.flags()),
		Action: func(ctx *cli.Context) error {
			args, err := arguments(ctx, 1, -1)
			if err != nil {
				return err
			}
			return runSSH(ctx.Context, c, &o, args[0], args[1:])
		},
	}
}

func runSSH(ctx context.Context, c *console, o *sshOptions, name string, command []string) error {
	if _, ok := address(name); ok && o.On == "" {
		o.On = name
	}
	m, err := o.find(ctx, c, name)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "nixctl-ssh-")
	if err != nil {
		return fmt.Errorf("make a place for the pinned key: %w", err)
	}
	defer os.RemoveAll(dir)
	args, err := sshArgs(m.Installer, dir+"/known_hosts", append(o.Identity.Value(), login.StoreKeys(c.keys)...))
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "ssh", append(args, command...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.in, c.out, c.err
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return &remoteError{exit.ExitCode()}
	}
	return err
}

// sshArgs pins the proved key: it is written to file under an alias, so that neither
// the address nor the user's own known_hosts matter.
func sshArgs(inst *verify.Installer, file string, identities []string) ([]string, error) {
	alias := "nixctl-" + inst.Name()
	if err := keystore.AppendKnownHosts(file, []string{alias}, inst.Key()); err != nil {
		return nil, err
	}
	args := []string{
		"-o", "HostKeyAlias=" + alias, "-o", "UserKnownHostsFile=" + file, "-o", "GlobalKnownHostsFile=/dev/null",
		"-o", "StrictHostKeyChecking=yes", "-o", "UpdateHostKeys=no", "-o", "HostKeyAlgorithms=" + inst.Key().Type(), "-l", "root",
	}
	for _, i := range identities {
		args = append(args, "-i", i)
	}
	if p := inst.Addr().Port(); p != 22 {
		args = append(args, "-p", strconv.Itoa(int(p)))
	}
	return append(args, "--", inst.Addr().Addr().String()), nil
}

// A remoteError is the exit status of a command run over ssh. It has been told by the
// command itself.
type remoteError struct{ status int }

func (e *remoteError) Error() string { return fmt.Sprintf("ssh ended with status %d", e.status) }
