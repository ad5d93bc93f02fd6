package install

import (
	"errors"
	"fmt"

	"github.com/nixctl/nixctl/install/disk"
)

// What an installation needs at the least, in bytes. nixos-install evaluates and
// copies on the machine itself: measured, it fails below about half a gigabyte, and
// the evaluation of a real configuration takes more.
const (
	minMemory  = 640 << 20
	minStore   = 64 << 20  // of the installer's own store, for what nix puts there
	rootSpared = 512 << 20 // what a ready system must leave free on its root file system
)

// check refuses what can't succeed or would do harm, all reasons at once.
func check(s Spec) error {
	allowed := disk.Options{Wipe: s.Wipe}
	if c := s.System.Closure; c != nil {
		allowed.Root = c.Size() + rootSpared
	}
	return errors.Join(checkMachine(s), s.Layout.Check(s.Disk, allowed), disk.CheckMounts(s.Machine.Disks, s.Disk))
}

func checkMachine(s Spec) error {
	m := s.Machine
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrUnfit, fmt.Sprintf(format, args...))
	}
	switch arch := s.System.Architecture; {
	case !m.Installer:
		return refuse("%q does not run a NixOS installer; boot it from one", m.Hostname)
	case arch != "" && arch != m.Architecture:
		return refuse("the system is built for %s and the machine is %s", arch, m.Architecture)
	case s.Layout.UEFI() && m.Firmware != "uefi":
		return refuse("it was started by a %s and can't boot by UEFI; leave --boot away, or change its firmware settings and start the installer again", m.Firmware)
	case m.Memory < minMemory:
		return refuse("it has %d MiB of memory and the installation needs %d", m.Memory>>20, minMemory>>20)
	case m.StoreAvailable < minStore:
		return refuse("the installer's store has %d MiB left and the installation needs %d; restart the installer, or give the machine more memory", m.StoreAvailable>>20, minStore>>20)
	}
	return nil
}
