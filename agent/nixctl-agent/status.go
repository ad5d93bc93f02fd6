//go:build linux

package main

import (
	"context"
	"flag"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/term"

	"github.com/nixctl/nixctl/agent/announce"
	"github.com/nixctl/nixctl/agent/status"
	"github.com/nixctl/nixctl/discovery/words"
)

// statusFlags shows on the machine's own screen who it is.
func statusFlags(fs *flag.FlagSet) func(context.Context, streams) error {
	v := view{machine: announce.Machine{Version: programVersion()}, runs: "/run/nixctl"}
	watch := false
	fs.StringVar(&v.machine.HostKey, "host-key", "/etc/ssh/ssh_host_ed25519_key.pub", "public SSH host key `FILE`")
	fs.StringVar(&v.machine.Name, "name", "", "`NAME` to show (default: /nixctl/hostname, else the kernel's host name)")
	fs.BoolVar(&watch, "watch", false, "go on and show what changes")
	return func(ctx context.Context, s streams) error {
		if !watch {
			return status.Print(s.out, v.status())
		}
		return status.Screen{W: s.out, Terminal: redrawn(s)}.Watch(ctx, v.status)
	}
}

// redrawn reports whether the output is a screen that only a person looks at. What
// goes to a serial console is often kept in a log.
func redrawn(s streams) bool {
	f, ok := s.out.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return false
	}
	name, err := os.Readlink("/proc/self/fd/1")
	return err == nil && !strings.HasPrefix(name, "/dev/ttyS") && !strings.HasPrefix(name, "/dev/ttyAMA")
}

// A view collects what is shown.
type view struct {
	machine announce.Machine
	runs    string // where nixctl keeps the jobs that it runs on this machine

	fingerprint, words string // the last that were made, since words are slow
}

func (v *view) status() status.Status {
	s := status.Status{Version: v.machine.Version, Addresses: addresses(), State: v.state()}
	claim, err := v.machine.Claim(nil)
	if err != nil {
		s.State = "waiting for an SSH host key"
		return s
	}
	if claim.Fingerprint != v.fingerprint {
		v.fingerprint, v.words = claim.Fingerprint, words.Of(claim.Fingerprint)
	}
	s.Name, s.Fingerprint, s.Words = claim.Name, v.fingerprint, v.words
	return s
}

// state tells what an installation on this machine does, from the files of its jobs:
// STEP.ran once it has begun, STEP.status once it has ended.
func (v *view) state() string {
	begun, err := filepath.Glob(filepath.Join(v.runs, "*", "*.ran"))
	if err != nil || len(begun) == 0 {
		return "ready to be installed"
	}
	latest := strings.TrimSuffix(slices.Max(begun), ".ran") // runs and steps sort by time
	step := filepath.Base(latest)
	result, err := os.ReadFile(latest + ".status")
	switch {
	case err != nil, len(result) == 0: // it is being written
		return "installing: " + step
	case strings.TrimSpace(string(result)) == "exit 0":
		return "installing: done with " + step
	default:
		return "installation failed at " + step
	}
}

// addresses lists those under which others reach this machine. Link-local ones come
// last and with their zone.
func addresses() []string {
	var global, local []string
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil
	}
	for _, ifi := range interfaces {
		addrs, err := ifi.Addrs()
		if err != nil || ifi.Flags&net.FlagLoopback != 0 || ifi.Flags&net.FlagUp == 0 {
			continue
		}
		for _, a := range addrs {
			switch n, ok := a.(*net.IPNet); {
			case ok && n.IP.IsLinkLocalUnicast():
				local = append(local, n.IP.String()+"%"+ifi.Name)
			case ok:
				global = append(global, n.IP.String())
			}
		}
	}
	return append(global, local...)
}
