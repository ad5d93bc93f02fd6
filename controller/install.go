package controller

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nixctl/nixctl/agent/facts"
	"github.com/nixctl/nixctl/controller/keystore"
	"github.com/nixctl/nixctl/controller/terminal"
	"github.com/nixctl/nixctl/install"
	"github.com/nixctl/nixctl/install/disk"
	"github.com/nixctl/nixctl/install/target"
	"github.com/nixctl/nixctl/nix"
	"github.com/urfave/cli/v2"
)

type installOptions struct {
	findOptions
	loginOptions
	Disk           string
	Flake          string
	Config         string
	System         string
	Layout         string
	Swap           string
	Encrypt        bool
	PassphraseFile string
	Boot           string
	ExtraFiles     string
	Owners         cli.StringSlice
	Wipe           bool
	Yes            bool
	DryRun         bool
	NoReboot       bool
	JSON           bool
	Wait           time.Duration
}

func installCommand(c *console) *cli.Command {
	var o installOptions
	return &cli.Command{
		Name:      "install",
		Usage:     "install NixOS on a verified installer, reboot it and prove what came up",
		ArgsUsage: "NAME",
		Description: `Finds and verifies the machine NAME, shows what will be done and asks; then partitions
the disk, uploads the configuration, runs nixos-install, reboots, finds the machine again
and proves that the right system came up. Nothing is written before the question is
answered (or with --yes), and --dry-run ends there.

The name of the host to be is NAME, or ATTR of --flake REF#ATTR. Without --flake, --config
and --system a minimal configuration is written that can be logged in to.

Exit codes: 0 done and proved; 1 failed; 2 usage; 3 not found; 4 identity not proved;
5 disk refused; 6 a step failed; 7 rebooted but not proved; 8 locked by another run;
130 interrupted.`,
		Flags: slices.Concat(o.findOptions.flags(), o.oneFlags(), o.loginOptions.flags(), o.flags()),
		Action: func(ctx *cli.Context) error {
			args, err := arguments(ctx, 1, 1)
			if err != nil {
				return err
			}
			return o.run(ctx.Context, c, args[0])
		},
	}
}

func (o *installOptions) flags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "disk", Usage: "install on this `DISK`: /dev/..., serial:..., wwn:..., smallest, or only", Destination: &o.Disk},
		&cli.StringFlag{Name: "flake", Usage: "install the host of this flake `REF[#ATTR]`; a local one is uploaded", Destination: &o.Flake},
		&cli.StringFlag{Name: "config", Usage: "install this folder `DIR` with a configuration.nix", Destination: &o.Config},
		&cli.StringFlag{Name: "system", Usage: "install this ready `STOREPATH`, of the machine or of this workstation", Destination: &o.System},
		&cli.StringFlag{Name: "layout", Usage: "file system of the root: ext4, btrfs or xfs", Value: "ext4", Destination: &o.Layout},
		&cli.StringFlag{Name: "swap", Usage: "make a swap partition of this `SIZE`, such as 4G", Destination: &o.Swap},
		&cli.BoolFlag{Name: "encrypt", Usage: "encrypt the root with LUKS2", Destination: &o.Encrypt},
		&cli.StringFlag{Name: "passphrase-file", Usage: "read the passphrase of --encrypt from `FILE` (- for standard input) instead of asking", Destination: &o.PassphraseFile},
		&cli.StringFlag{Name: "boot", Usage: "auto, uefi or bios", Value: "auto", Destination: &o.Boot},
		&cli.StringFlag{Name: "extra-files", Usage: "copy the tree `DIR` to / of the new system, modes kept, owned by root", Destination: &o.ExtraFiles},
		&cli.StringSliceFlag{Name: "owner", Usage: "with --extra-files: `PATH=UID:GID` owns PATH and all below it (repeatable)", Destination: &o.Owners},
		&cli.BoolFlag{Name: "wipe", Usage: "destroy what is on the disk", Destination: &o.Wipe},
		&cli.BoolFlag{Name: "yes", Usage: "do not ask", Destination: &o.Yes},
		&cli.BoolFlag{Name: "dry-run", Usage: "show the plan and change nothing", Destination: &o.DryRun},
		&cli.BoolFlag{Name: "no-reboot", Usage: "stop when the system is installed", Destination: &o.NoReboot},
		&cli.DurationFlag{Name: "wait", Usage: "after the reboot, wait `TIME` for the system to come up", Value: 10 * time.Minute, Destination: &o.Wait},
		&cli.BoolFlag{Name: "json", Usage: "print one JSON object an event and line", Destination: &o.JSON},
	}
}

// run is the whole story of an installation.
func (o *installOptions) run(ctx context.Context, c *console, name string) error {
	p := newProgress(c, o.JSON)
	proof, err := o.install(ctx, c, p, name)
	p.result(proof, err)
	return err
}

func (o *installOptions) install(ctx context.Context, c *console, p *progress, name string) (*Proof, error) {
	if err := o.validate(name); err != nil {
		return nil, err
	}
	began := time.Now()
	p.stage("looking for %s", name)
	m, err := reach(ctx, c, &o.findOptions, &o.loginOptions, name)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	p.stage("found %s, host key proved (%s)", m.Installer, terminal.Duration(time.Since(began)))

	spec, err := o.spec(ctx, c, name, m.facts)
	if err != nil {
		return nil, err
	}
	plan, err := install.New(spec)
	if err != nil {
		return nil, err
	}
	o.show(c, m, plan)
	if o.DryRun {
		return nil, nil
	}
	if err := o.confirm(ctx, c, plan); err != nil {
		return nil, err
	}
	if plan, err = o.withSecrets(ctx, c, spec); err != nil {
		return nil, err
	}
	j, err := newJournal(plan, p.event)
	if err != nil {
		return nil, err
	}
	proof, err := o.carryOut(ctx, c, p, plan, m, j)
	return proof, errors.Join(err, j.end(proof, err))
}

// carryOut runs the plan and proves what came of it.
func (o *installOptions) carryOut(ctx context.Context, c *console, p *progress, plan *install.Plan, m *reached, j *journal) (*Proof, error) {
	m.OnLost = func(err error) { p.stage("connection lost (%v); the step goes on, trying again", err) }
	m.OnBack = func() { p.stage("connected again") }
	if err := plan.Run(ctx, m, j); err != nil {
		return nil, stopped(err, plan)
	}
	m.Close()
	if o.NoReboot {
		p.stage("installed; the machine still runs the installer, and boots the new system when it is restarted")
		return nil, nil
	}
	return o.prove(ctx, c, p, plan, m, j)
}

// validate refuses flags that make no sense, before anything is looked for.
func (o *installOptions) validate(name string) error {
	given := 0
	for _, s := range []string{o.Flake, o.Config, o.System} {
		if s != "" {
			given++
		}
	}
	switch {
	case o.Disk == "":
		return fmt.Errorf("%w: name the disk to install on with --disk; nixctl show NAME lists them", errUsage)
	case given > 1:
		return fmt.Errorf("%w: --flake, --config and --system exclude each other", errUsage)
	case o.PassphraseFile != "" && !o.Encrypt:
		return fmt.Errorf("%w: --passphrase-file is for --encrypt", errUsage)
	case len(o.Owners.Value()) > 0 && o.ExtraFiles == "":
		return fmt.Errorf("%w: --owner is for --extra-files", errUsage)
	}
	host := name
	if o.Flake != "" {
		ref, err := nix.ParseFlakeRef(o.Flake)
		if err != nil {
			return fmt.Errorf("%w: --flake: %w", errUsage, err)
		}
		host = or(ref.Name, name)
	}
	if err := keystore.CheckName(host); err != nil {
		return fmt.Errorf("%w: the name of the host to be: %w", errUsage, err)
	}
	if _, err := o.extraFiles(); err != nil {
		return err
	}
	_, err := o.layout(facts.Facts{}, "")
	return err
}

// show prints what will be done, for people.
func (o *installOptions) show(c *console, m *reached, plan *install.Plan) {
	var b strings.Builder
	f, d := plan.Spec.Machine, plan.Disk
	fmt.Fprintf(&b, "\n%s will be installed on the machine that proved to be %s\n", plan.Host, m.Installer)
	fmt.Fprintf(&b, "  machine %s, serial %s, %s\n", or(f.Product, "unknown product"), or(f.Serial, "unknown"), f.Firmware)
	fmt.Fprintf(&b, "  disk    %s\n", disk.Describe(d))
	for i, l := range describeContent(d) {
		fmt.Fprintf(&b, "  %-7s %s\n", map[bool]string{true: "erases"}[i == 0], strings.TrimPrefix(l, "  "))
	}
	for i, part := range plan.Spec.Layout.Partitions(plan.Pin) {
		fmt.Fprintf(&b, "  %-7s %d  %-12s %-8s %s %s\n", map[bool]string{true: "makes"}[i == 0], part.Number, part.Label, terminal.Bytes(part.Size), part.Holds, part.Mount)
	}
	fmt.Fprintf(&b, "  system  %s\n", plan.Spec.System.Title)
	fmt.Fprintf(&b, "  then    %s\n", map[bool]string{true: "stays in the installer", false: "reboots, and nixctl proves that the new system came up"}[o.NoReboot])
	for _, n := range plan.Notes() {
		fmt.Fprintf(&b, "  note    %s\n", n)
	}
	to := &console{err: c.err}
	if o.DryRun {
		fmt.Fprintf(&b, "\n%s", plan)
		if !o.JSON { // it is the result then
			to.err = c.out
		}
	}
	to.note("%s", b.String())
}

// confirm has the user type the disk's serial, or its name if it has none.
func (o *installOptions) confirm(ctx context.Context, c *console, plan *install.Plan) error {
	if o.Yes {
		return nil
	}
	want := or(plan.Disk.Serial, plan.Disk.Path)
	got, err := c.ask(ctx, fmt.Sprintf("\nAll data on %s will be lost. Type %s to go on: ", plan.Disk.Path, terminal.Sanitize(want)))
	if err != nil {
		return fmt.Errorf("%w: nothing was changed; --yes installs without asking", err)
	}
	if strings.TrimSpace(got) != want {
		return errors.New("that is not the disk's serial: nothing was changed")
	}
	return nil
}

// stopped says what a failed or interrupted step leaves behind, and what to do.
func stopped(err error, plan *install.Plan) error {
	var step *install.StepError
	if !errors.As(err, &step) {
		return err
	}
	var exit *target.ExitError
	switch {
	case errors.Is(err, context.Canceled) && step.Unit != "":
		return fmt.Errorf("%w\nthe machine goes on with %q by itself; to end it there: nixctl ssh %s -- systemctl stop %s", err, step.Name, plan.Host, step.Unit)
	case step.Name == install.PrepareStep && errors.As(err, &exit) && exit.Status == disk.RefusedStatus:
		return fmt.Errorf("%w: %w\nthe disk is not as it was planned for any more; nothing was written to it", disk.ErrRefused, err)
	}
	return fmt.Errorf("%w\nthe machine still runs the installer; the whole log: nixctl logs %s", err, plan.Host)
}

// newRun makes the id of a run: the time, so that runs sort, and something random.
func newRun() string {
	b := make([]byte, 3)
	rand.Read(b)
	return time.Now().UTC().Format("20060102_150405") + "_" + hex.EncodeToString(b)
}
