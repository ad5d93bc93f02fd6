package disk

import (
	_ "embed"
	"fmt"
	"strings"

	"github.com/nixctl/nixctl/agent/facts"
	"github.com/nixctl/nixctl/install/command"
)

// A Pin is what a disk is known by from the plan to the last write. A serial
// number or WWN is the disk's own; without both, its place and the kernel's
// number for it must do, which hold until the machine restarts.
type Pin struct {
	Path     string `json:"path"` // below /dev/disk/by-id, else by-path, else "/dev/sda"
	Serial   string `json:"serial"`
	WWN      string `json:"wwn"`
	Size     int64  `json:"size"`     // bytes
	Sequence int64  `json:"sequence"` // facts.Disk.Sequence; counts only for a weak pin
}

// NewPin returns the pin of a disk.
func NewPin(d facts.Disk) Pin {
	return Pin{Path: stablePath(d), Serial: d.Serial, WWN: d.WWN, Size: d.Size, Sequence: d.Sequence}
}

// Weak reports whether the disk has no identity of its own. Plans should say so.
func (p Pin) Weak() bool { return p.Serial == "" && p.WWN == "" }

// String names the disk for people.
func (p Pin) String() string {
	switch {
	case p.Serial != "":
		return fmt.Sprintf("disk with serial %s (%s)", p.Serial, Size(p.Size))
	case p.WWN != "":
		return fmt.Sprintf("disk with WWN %s (%s)", p.WWN, Size(p.Size))
	}
	return fmt.Sprintf("disk at %s (%s)", p.Path, Size(p.Size))
}

// stablePath prefers links that say what the disk is over those that say where.
func stablePath(d facts.Disk) string {
	for _, dir := range []string{"/dev/disk/by-id/", "/dev/disk/by-path/"} {
		for _, l := range d.Links {
			if strings.HasPrefix(l, dir) {
				return l
			}
		}
	}
	return d.Path
}

// RefusedStatus is the exit status of a script that refused the disk and left it
// as it was. The last line of its standard error begins with "refused: ".
const RefusedStatus = 65

//go:embed find.sh
var findScript string

//go:embed guard.sh
var guardScript string

// Guard returns shell code that finds the pinned disk on the machine it runs on
// and sets $device to it. It exits with [RefusedStatus] unless there is exactly
// one such disk, which can be written, is not the boot medium and is mounted
// nowhere but below /mnt by an interrupted run. It belongs at the beginning of
// the script that writes.
func (p Pin) Guard() string { return p.find("/sys") + guardScript }

// find returns the part of the guard that sets $device; sys is where sysfs is.
func (p Pin) find(sys string) string {
	b := &strings.Builder{}
	b.WriteString("set -eu\nexport LC_ALL=C\n")
	assign := func(name, value string) { fmt.Fprintf(b, "%s=%s\n", name, command.Quote(value)) }
	assign("title", p.String())
	assign("path", p.Path)
	assign("serial", p.Serial)
	assign("wwn", p.WWN)
	assign("sectors", fmt.Sprint(p.Size/512)) // the kernel counts them so, whatever the disk does
	assign("sequence", fmt.Sprint(p.Sequence))
	assign("sys", sys)
	b.WriteString(findScript)
	return b.String()
}
