package controller

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/nixctl/nixctl/controller/keystore"
	"github.com/nixctl/nixctl/controller/terminal"
	"github.com/nixctl/nixctl/discovery/words"
	"github.com/urfave/cli/v2"
	"golang.org/x/crypto/ssh"
)

func keysCommand(c *console) *cli.Command {
	var force bool
	return &cli.Command{
		Name:  "keys",
		Usage: "the key store: who the machines are",
		Description: `The key store is a folder of host keys; a machine is verified if it proves one of them.

Exit codes: 0 done; 1 failed; 2 usage; 3 no such host.`,
		Subcommands: []*cli.Command{
			{
				Name: "new", Usage: "make the key pair of a host", ArgsUsage: "HOST",
				Flags:  []cli.Flag{&cli.BoolFlag{Name: "force", Usage: "replace a key that is there", Destination: &force}},
				Action: withArgs(1, 1, func(args []string) error { return newKey(c, args[0], force) }),
			},
			{Name: "list", Usage: "list the hosts", Action: withArgs(0, 0, func([]string) error { return listKeys(c) })},
			{Name: "show", Usage: "show a host's public key", ArgsUsage: "HOST", Action: withArgs(1, 1, func(args []string) error { return showKey(c, args[0]) })},
			{Name: "known-hosts", Usage: "print the hosts as lines of known_hosts", Action: withArgs(0, 0, func([]string) error { return printKnownHosts(c) })},
		},
		Action: func(ctx *cli.Context) error {
			if ctx.NArg() > 0 {
				return fmt.Errorf("%w: there is no command %q; see nixctl keys --help", errUsage, "keys "+ctx.Args().First())
			}
			return cli.ShowSubcommandHelp(ctx)
		},
	}
}

// withArgs is an action that gets its checked arguments.
func withArgs(least, most int, do func(args []string) error) cli.ActionFunc {
	return func(ctx *cli.Context) error {
		args, err := arguments(ctx, least, most)
		if err != nil {
			return err
		}
		return do(args)
	}
}

func newKey(c *console, host string, force bool) error {
	store, err := keystore.Open(c.keys)
	if err != nil {
		return err
	}
	h, err := store.New(host, force)
	if err != nil {
		return err
	}
	printKey(c, h)
	return nil
}

func showKey(c *console, host string) error {
	store, err := keystore.Open(c.keys)
	if err != nil {
		return err
	}
	h, err := store.Host(host)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", errNotFound, err)
	}
	if err != nil {
		return err
	}
	printKey(c, h)
	return nil
}

func printKey(c *console, h keystore.Host) {
	fp := ssh.FingerprintSHA256(h.Key)
	fmt.Fprintf(c.out, "name         %s\nfingerprint  %s\nwords        %s\npublic key   %s\n",
		h.Name, fp, words.Of(fp), strings.TrimSpace(string(ssh.MarshalAuthorizedKey(h.Key))))
}

func printKnownHosts(c *console) error {
	store, err := keystore.Open(c.keys)
	if err != nil {
		return err
	}
	return store.WriteKnownHosts(c.out)
}

func listKeys(c *console) error {
	store, err := keystore.Open(c.keys)
	if err != nil {
		return err
	}
	hosts, broken := store.Hosts()
	if len(hosts) == 0 && broken == nil {
		return fmt.Errorf("%w: the key store %q has no host\nmake one with: nixctl keys new HOST", errNotFound, c.keys)
	}
	table := terminal.Table{Header: []string{"NAME", "FINGERPRINT", "WORDS"}}
	for _, h := range hosts {
		fp := ssh.FingerprintSHA256(h.Key)
		table.Add(h.Name, fp, words.Of(fp))
	}
	for _, l := range table.Lines() {
		fmt.Fprintln(c.out, l)
	}
	return broken
}
