//go:build linux

// Package lab runs machines to install on: QEMU guests booted from the guest
// image, on a LAN of their own, with a workstation beside them that has a
// throw-away key store and the programs.
//
// A [Lab] is a LAN with what its guests share. [Lab.Start] boots a [Guest];
// when its installer reboots, the guest goes on from its own disk, as a
// machine does whose installation medium is pulled out in time.
package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"github.com/nixctl/nixctl/testenv/image"
	"github.com/nixctl/nixctl/testenv/lan"
)

// A Config describes a lab. The zero value is a usable one.
type Config struct {
	LAN      lan.Config
	Image    *image.Image // from image.Ensure, which New calls otherwise
	Programs *Programs    // from Build, which New calls otherwise
	Progress func(string) // gets a line before each longer step
}

// A Lab is a running lab. Its methods may be called from several goroutines.
type Lab struct {
	LAN      *lan.LAN
	Image    *image.Image
	Programs Programs
	Keys     string // the key store, in nixctl's layout

	mu     sync.Mutex
	guests []*Guest
	names  map[string]bool
}

// New makes a lab without guests.
func New(ctx context.Context, c Config) (*Lab, error) {
	if c.Progress == nil {
		c.Progress = func(string) {}
	}
	if c.Image == nil {
		img, err := image.Ensure(ctx, c.Progress)
		if err != nil {
			return nil, err
		}
		c.Image = img
	}
	network, err := lan.New(ctx, c.LAN)
	if err != nil {
		return nil, err
	}
	l := &Lab{LAN: network, Image: c.Image, Keys: filepath.Join(network.Dir(), "keys"), names: make(map[string]bool)}
	if err := l.equip(ctx, c); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// equip gives the workstation its programs and keys.
func (l *Lab) equip(ctx context.Context, c Config) error {
	if c.Programs == nil {
		c.Progress("building the programs")
		p, err := Build(ctx, filepath.Join(l.LAN.Dir(), "bin"))
		if err != nil {
			return err
		}
		c.Programs = p
	}
	l.Programs = *c.Programs
	return errors.Join(os.Mkdir(l.home(), 0o700), l.makeKeys())
}

func (l *Lab) home() string { return filepath.Join(l.LAN.Dir(), "home") }

// Close ends the guests and removes the lab with all its files.
func (l *Lab) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, g := range l.guests {
		g.retire()
	}
	err := l.LAN.Close() // ends their QEMUs, which run in its namespace
	for _, g := range l.guests {
		<-g.off
	}
	return err
}

// Nixctl is a nixctl command on the workstation, which finds the key store and
// keeps its state in the lab.
func (l *Lab) Nixctl(ctx context.Context, args ...string) *exec.Cmd {
	cmd := l.LAN.Command(ctx, l.Programs.Nixctl, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + l.home(), "USER=root", "NIXCTL_KEYS=" + l.Keys, "TERM=dumb"}
	return cmd
}

// Programs are the paths of what is under test, and of what helps with it.
type Programs struct {
	Nixctl    string // the workstation's
	Agent     string // nixctl-agent, injected into guests
	MicroSSHD string // the micro guests' SSH server
}

// Build builds the programs into dir, static and small as a release has them.
// It must be called inside the module.
func Build(ctx context.Context, dir string) (*Programs, error) {
	const module = "github.com/nixctl/nixctl/"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", dir+"/",
		module+"controller/nixctl", module+"agent/nixctl-agent", module+"testenv/microsshd")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the programs: %w: %s", err, out)
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	return &Programs{in("nixctl"), in("nixctl-agent"), in("microsshd")}, nil
}
