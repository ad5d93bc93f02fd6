//go:build linux

package main

import (
	"context"
	"flag"
	"log/slog"

	"github.com/nixctl/nixctl/agent"
	"github.com/nixctl/nixctl/agent/announce"
)

// runOptions are the flags of run.
type runOptions struct {
	machine announce.Machine
	port    uint
	verbose bool
}

func runFlags(fs *flag.FlagSet) func(context.Context, streams) error {
	o := runOptions{machine: announce.Machine{Version: programVersion()}}
	fs.StringVar(&o.machine.HostKey, "host-key", "/etc/ssh/ssh_host_ed25519_key.pub", "public SSH host key `FILE`; awaited if it is not there yet")
	fs.StringVar(&o.machine.Name, "name", "", "`NAME` to announce (default: /nixctl/hostname, else the kernel's host name)")
	fs.UintVar(&o.port, "port", 22, "`PORT` of the SSH server")
	fs.BoolVar(&o.verbose, "verbose", false, "log more")
	return func(ctx context.Context, s streams) error { return runAgent(ctx, s, o) }
}

// runAgent runs the services of the installer until ctx is done.
func runAgent(ctx context.Context, s streams, o runOptions) error {
	if o.port == 0 || o.port > 65535 {
		return usagef("run: --port %d is not between 1 and 65535", o.port)
	}
	level := slog.LevelInfo
	if o.verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(s.err, &slog.HandlerOptions{Level: level}))
	a := agent.Agent{Log: log, Services: []agent.Service{
		announce.New(o.machine.Claim, uint16(o.port), log),
	}}
	a.Run(ctx)
	return nil
}
