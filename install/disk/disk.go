// Package disk chooses the disk to install to, says whether that may be done, and
// writes the shell scripts that do it.
//
// [Find] resolves what the user called the disk, once. From then on it is known by
// its [Pin]: serial number, WWN and size, which the scripts of [Prepare], [Mount]
// and [Unmount] look for on the machine itself. [Layout.Check] refuses what must
// not be overwritten before anything is done, and the script's [Pin.Guard] looks
// again right before the first write.
package disk

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nixctl/nixctl/agent/facts"
)

// ErrRefused is wrapped by every error that says that a disk must not, or can't,
// be installed to.
var ErrRefused = errors.New("disk refused")

// A refusal is an error with its own text that is ErrRefused.
type refusal string

func (r refusal) Error() string        { return string(r) }
func (r refusal) Is(target error) bool { return target == ErrRefused }

func refuse(format string, args ...any) error { return refusal(fmt.Sprintf(format, args...)) }

// Find returns the disk that ref names: "/dev/sda", a link such as
// "/dev/disk/by-id/...", "serial:...", "wwn:...", or a word. "only" is the only disk
// that can be installed to, "smallest" the smallest of them if there is just one
// of its size. An error lists the disks there are and wraps [ErrRefused].
func Find(disks []facts.Disk, ref string) (facts.Disk, error) {
	match, err := matcher(disks, ref)
	if err != nil {
		return facts.Disk{}, err
	}
	var found []facts.Disk
	for _, d := range disks {
		if match(d) {
			found = append(found, d)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return facts.Disk{}, refuse("no disk is %q\n%s", ref, candidates(disks))
	}
	return facts.Disk{}, refuse("%d disks are %q; name one by its path or serial\n%s", len(found), ref, candidates(found))
}

func matcher(disks []facts.Disk, ref string) (func(facts.Disk) bool, error) {
	serial, bySerial := strings.CutPrefix(ref, "serial:")
	wwn, byWWN := strings.CutPrefix(ref, "wwn:")
	wwn = plainWWN(wwn)
	switch {
	case bySerial && serial != "":
		return func(d facts.Disk) bool { return d.Serial == serial }, nil
	case byWWN && wwn != "":
		return func(d facts.Disk) bool { return plainWWN(d.WWN) == wwn }, nil
	case ref == "only":
		return installable, nil
	case ref == "smallest":
		least := int64(-1)
		for _, d := range disks {
			if installable(d) && (least < 0 || d.Size < least) {
				least = d.Size
			}
		}
		return func(d facts.Disk) bool { return installable(d) && d.Size == least }, nil
	case strings.HasPrefix(ref, "/dev/"):
		return func(d facts.Disk) bool { return d.Path == ref || slices.Contains(d.Links, ref) }, nil
	}
	return nil, refuse("%q names no disk; say /dev/..., serial:..., wwn:..., \"only\" or \"smallest\"\n%s", ref, candidates(disks))
}

// plainWWN makes names comparable as people copy them: with or without "0x", in
// any case.
func plainWWN(s string) string { return strings.TrimPrefix(strings.ToLower(s), "0x") }

// installable reports whether "only" and "smallest" consider the disk.
func installable(d facts.Disk) bool { return !d.BootMedium && !d.ReadOnly }

// candidates lists disks for an error, a line each.
func candidates(disks []facts.Disk) string {
	if len(disks) == 0 {
		return "the machine has no disks"
	}
	var lines []string
	for _, d := range disks {
		lines = append(lines, "  "+Describe(d))
	}
	return strings.Join(lines, "\n")
}

// Describe names a disk for people in one line: "/dev/sda  1.8 TiB  Samsung SSD
// 990  serial S6Z1  boot medium".
func Describe(d facts.Disk) string {
	parts := []string{d.Path, Size(d.Size)}
	if d.Model != "" {
		parts = append(parts, d.Model)
	}
	switch {
	case d.Serial != "":
		parts = append(parts, "serial "+d.Serial)
	case d.WWN != "":
		parts = append(parts, "wwn "+d.WWN)
	default:
		parts = append(parts, "no serial")
	}
	if d.BootMedium {
		parts = append(parts, "boot medium")
	}
	if d.ReadOnly {
		parts = append(parts, "read-only")
	}
	return strings.Join(parts, "  ")
}
