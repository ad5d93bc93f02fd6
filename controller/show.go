package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/nixctl/nixctl/agent/facts"
	"github.com/nixctl/nixctl/controller/terminal"
	"github.com/nixctl/nixctl/discovery/survey"
	"github.com/nixctl/nixctl/discovery/words"
	"github.com/nixctl/nixctl/install/disk"
	"github.com/urfave/cli/v2"
	"golang.org/x/crypto/ssh"
)

type showOptions struct {
	findOptions
	loginOptions
	JSON bool
}

func showCommand(c *console) *cli.Command {
	var o showOptions
	return &cli.Command{
		Name:      "show",
		Usage:     "show what a verified installer is made of, and its disks",
		ArgsUsage: "NAME|ADDR",
		Description: `Finds and verifies the machine, logs in and lists its facts. Changes nothing.

Exit codes: 0 done; 1 failed; 2 usage; 3 not found; 4 identity not proved; 130 interrupted.`,
		Flags: append(slices.Concat(o.findOptions.flags(), o.oneFlags(), o.loginOptions.flags()),
			&cli.BoolFlag{Name: "json", Usage: "print one JSON object", Destination: &o.JSON},
		),
		Action: func(ctx *cli.Context) error {
			args, err := arguments(ctx, 1, 1)
			if err != nil {
				return err
			}
			return show(ctx.Context, c, &o, args[0])
		},
	}
}

func show(ctx context.Context, c *console, o *showOptions, name string) error {
	if _, ok := address(name); ok && o.On == "" {
		o.On = name
	}
	m, err := reach(ctx, c, &o.findOptions, &o.loginOptions, name)
	if err != nil {
		return err
	}
	defer m.Close()
	if o.JSON {
		return json.NewEncoder(c.out).Encode(m.facts)
	}
	fmt.Fprint(c.out, describeMachine(m.Machine, m.facts))
	return nil
}

// describeMachine prints facts for people.
func describeMachine(m survey.Machine, f facts.Facts) string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-10s %s\n", name, terminal.Sanitize(fmt.Sprintf(format, args...)))
	}
	fp := ssh.FingerprintSHA256(m.Key)
	line("name", "%s (verified)", m.Installer.Name())
	line("key", "%s", fp)
	line("words", "%s", words.Of(fp))
	line("address", "%s", strings.Join(addresses(m), " "))
	line("machine", "%s, serial %s", or(f.Product, "unknown product"), or(f.Serial, "unknown"))
	line("system", "%s, %d CPUs, %s memory (%s free), kernel %s", f.Architecture, f.CPUs, terminal.Bytes(f.Memory), terminal.Bytes(f.MemoryAvailable), f.Kernel)
	line("firmware", "%s%s%s", f.Firmware, map[bool]string{true: ", Secure Boot on"}[f.SecureBoot], map[bool]string{true: ", TPM " + f.TPM}[f.TPM != ""])
	line("running", "NixOS %s%s, clock %s", f.NixOSVersion, map[bool]string{true: " installer"}[f.Installer], f.Clock.UTC().Format("2006-01-02 15:04:05 UTC"))
	for _, n := range f.NICs {
		state := "no link"
		if n.Up {
			state = "link up"
		}
		line("network", "%s %s %s %s", n.Name, n.MAC, state, strings.Join(n.Addresses, " "))
	}
	for _, d := range f.Disks {
		line("disk", "%s", disk.Describe(d))
		for _, l := range describeContent(d) {
			line("", "%s", l)
		}
	}
	return b.String()
}

// describeContent tells what is on a disk, a line a volume.
func describeContent(d facts.Disk) []string {
	var lines []string
	var walk func(v facts.Volume, indent string)
	walk = func(v facts.Volume, indent string) {
		parts := []string{v.Device, terminal.Bytes(v.VolumeSize), or(v.FileSystem, "no known content")}
		if l := or(v.Label, v.PartLabel); l != "" {
			parts = append(parts, fmt.Sprintf("%q", l))
		}
		if len(v.Mounts) > 0 {
			parts = append(parts, "in use at "+strings.Join(v.Mounts, " "))
		}
		lines = append(lines, indent+strings.Join(parts, "  "))
		for _, h := range v.Holders {
			walk(h, indent+"  ")
		}
	}
	if len(d.Partitions) == 0 && d.FileSystem == "" && len(d.Holders) == 0 {
		return []string{"  no known content"}
	}
	if d.FileSystem != "" || len(d.Holders) > 0 {
		walk(d.Volume, "  ")
	}
	for _, p := range d.Partitions {
		walk(p, "  ")
	}
	return lines
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
