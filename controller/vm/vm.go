// Package vm runs virtual machines with QEMU and drives them over QMP.
//
// [Start] launches a machine described by a [Config] into a run folder, which
// holds its sockets, serial log, UEFI variables and process id; [Open] finds
// it there again from another process. A [Machine] is powered on and off,
// reset, paused, cut from its network and saved to a file the way real
// hardware suffers these things: [Machine.Kill] is a power cut.
//
// Machines are x86-64 with the q35 chipset. Emulation (TCG) is the default,
// so that a run does not depend on the workstation's rights to /dev/kvm.
package vm

import "errors"

// Firmware kinds.
const (
	UEFI = "uefi"
	BIOS = "bios"
)

// ErrNotRunning is returned for a machine that has ended, or a folder in
// which none runs.
var ErrNotRunning = errors.New("machine is not running")

// A Config describes a machine. The zero value of each field but Dir is a
// usable default.
type Config struct {
	Name string // shown by QEMU and in errors; defaults to the base name of Dir
	Dir  string // the run folder, one for each machine; made if absent

	Firmware string // UEFI (default) or BIOS
	Memory   int    // MiB, default 1024
	CPUs     int    // default 1
	Accel    string // QEMU's -accel value, such as "kvm" or "tcg,tb-size=64"; default "tcg"
	Screen   bool   // give it a graphics card, which Screendump needs
	Serial   string // serial number of the machine, as its firmware tells (SMBIOS type 1)

	// Kernel boots directly, without a boot loader; the three are otherwise empty.
	Kernel, Initrd, Cmdline string

	Disks []Disk // named disk0, disk1, ... in RemoveDevice and Throttle
	NICs  []NIC  // named nic0, nic1, ...

	// Credentials are passed to the guest's systemd as SMBIOS type 11 strings
	// (https://systemd.io/CREDENTIALS), by file and never by argument.
	Credentials map[string][]byte

	// Incoming is a file written by Machine.Save from a machine with the same
	// Config. The new machine goes on where the saved one stopped.
	Incoming string

	NoReboot bool     // a reset asked for by the guest ends the machine instead
	Detach   bool     // outlive this process; otherwise it dies with us where the system can do that (Linux)
	Prefix   []string // command that runs QEMU, such as "ip netns exec NAME"; it must keep open files and process id

	// OnEvent, if set, is called for each QMP event, one call at a time. It
	// must not call methods of the machine.
	OnEvent func(Event)
}

// A Disk is backed by a file of the workstation.
type Disk struct {
	File   string
	Format string // "raw" (default) or "qcow2"
	Bus    string // "virtio" (default), "scsi", "sata", "nvme" or "usb"

	Serial string // up to 20 bytes; QEMU makes none up, but nvme needs one
	WWN    uint64 // scsi and sata only; 0 is none
	Model  string // scsi (up to 16 bytes) and sata (up to 40 bytes) only

	ReadOnly  bool // on sata it is a CD-ROM drive: ATA disks cannot be read-only
	NoFlush   bool // ignore the guest's flushes: faster, and safe against a killed guest but not a dead workstation
	BootIndex int  // firmware tries the lowest first; 0 is no wish
}

// A NIC is a virtio network card.
type NIC struct {
	MAC string // default: QEMU's, the same in every machine

	// Tap is an existing tap device, seen from where QEMU runs. Without it the
	// card is on QEMU's user-mode network, into which Forward lets connections
	// pass ("tcp:127.0.0.1:2222-:22").
	Tap     string
	Forward []string
}

// An Exit tells why a machine ended.
type Exit struct {
	// Reason is QEMU's ShutdownCause, such as "guest-reset", "guest-shutdown"
	// or "host-qmp-quit"; empty if QEMU died without telling, as after Kill.
	Reason string
	// Err is QEMU's own end, with what it printed; nil after an orderly one,
	// and for machines attached by Open, whose status nobody here collects.
	Err error
}
