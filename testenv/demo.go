package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/nixctl/nixctl/controller/vm"
	"github.com/nixctl/nixctl/testenv/lab"
)

// demoGuests are the machines of the demo and of "lab up": one to install on, and one
// that stays as it is.
var demoGuests = []lab.Spec{
	{Name: "web1", Kind: lab.Systemd, Firmware: vm.UEFI, CPUs: 2, Disks: []lab.Disk{{Disk: vm.Disk{Bus: "sata", Serial: "QM00001", Model: "Lab Disk"}, Size: 8 << 30}}},
	{Name: "db1", Kind: lab.Lite, Firmware: vm.BIOS, Disks: []lab.Disk{{Disk: vm.Disk{Bus: "nvme", Serial: "nvme-db1"}, Size: 8 << 30}}},
}

// demo is the main job for a newcomer.
func demo(ctx context.Context, args []string) (err error) {
	if len(args) > 0 {
		return errUsage
	}
	if err := setup(ctx, nil); err != nil {
		return err
	}
	tell("A network of its own, and two machines without a system that boot an installer.")
	l, err := startLab(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()

	tell("Each installer was given an SSH host key whose public half is in the key store.\nWhich machines are there, and who are they? Each proves its key; nobody logs in.")
	if err := l.enter(ctx, "discover"); err != nil {
		return err
	}
	tell("What is web1 made of?")
	if err := l.enter(ctx, "show", "web1"); err != nil {
		return err
	}
	tell("Install it. No configuration is named, so a minimal one is written.\nWithout --yes it would ask for the disk's serial number now.")
	if err := l.enter(ctx, "install", "web1", "--disk", "/dev/sda", "--yes"); err != nil {
		return err
	}
	tell("It has rebooted and proved that it runs what was installed. Log in:")
	if err := l.enter(ctx, "ssh", "web1", "--", "nixos-version; uname -r; readlink /run/current-system"); err != nil {
		return err
	}
	tell("Done. Everything made for the demo is removed.\nTo try things by hand on the same machines: go run ./testenv lab up")
	return nil
}

// A demoLab is a running lab of the demo's guests.
type demoLab struct {
	*lab.Lab
	guests []*lab.Guest
}

// startLab boots the demo's guests and waits until they answer.
func startLab(ctx context.Context) (*demoLab, error) {
	start := time.Now()
	l, err := lab.New(ctx, lab.Config{Progress: func(s string) { say("     %s", s) }})
	if err != nil {
		return nil, err
	}
	d := &demoLab{Lab: l}
	if err := d.boot(ctx); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	say("     booted in %s", time.Since(start).Round(time.Second))
	return d, nil
}

func (d *demoLab) boot(ctx context.Context) error {
	for _, s := range demoGuests {
		key, err := d.HostKey(s.Name)
		if err != nil {
			return err
		}
		s.HostKey = key
		say("     booting %s (%s)", s.Name, s.Firmware)
		g, err := d.Start(ctx, s)
		if err != nil {
			return err
		}
		d.guests = append(d.guests, g)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	for _, g := range d.guests {
		if err := g.WaitSSH(ctx); err != nil {
			return err
		}
	}
	return nil
}

// enter shows a nixctl command as a user would type it, and runs it.
func (d *demoLab) enter(ctx context.Context, args ...string) error {
	fmt.Printf("\n$ nixctl %s\n", strings.Join(args, " "))
	cmd := d.Nixctl(ctx, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("nixctl %s: exit code %d", args[0], exit.ExitCode())
	}
	return err
}

// tell prints what happens next.
func tell(text string) {
	fmt.Println()
	for l := range strings.Lines(text) {
		fmt.Print("== " + strings.TrimSuffix(l, "\n") + "\n")
	}
}
