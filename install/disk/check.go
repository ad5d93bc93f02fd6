package disk

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nixctl/nixctl/agent/facts"
)

// Options are what the user allows.
type Options struct {
	Wipe bool // what is on the disk may be destroyed
	// Root is what the root file system must have room for, in bytes; at least
	// 1 GiB is asked for anyway.
	Root int64
}

// Check returns why the layout can't be made on the disk, nil if it can. A
// layout that makes no sense anywhere is an error of its own; all others wrap
// [ErrRefused].
//
// Old RAID, LVM, LUKS and swap that the installer brought up by itself count as
// content of the disk, and not as its use, unless something in them is mounted.
func (l Layout) Check(d facts.Disk, o Options) error {
	if err := l.valid(); err != nil {
		return err
	}
	switch {
	case d.BootMedium:
		return refuse("%s is the medium that the installer was booted from; choose another disk", d.Path)
	case d.ReadOnly:
		return refuse("%s is read-only; choose another disk or remove its write protection", d.Path)
	}
	if use := use(d); use != "" {
		return refuse("%s is in use: %s; end that on the machine first", d.Path, use)
	}
	if err := l.checkSize(d, o); err != nil {
		return err
	}
	if content := Content(d); content != "" && !o.Wipe {
		return refuse("%s holds %s; to destroy that, say --wipe", d.Path, content)
	}
	return nil
}

// CheckMounts refuses if another disk than target is mounted at /mnt or below, where
// the layout is to be mounted. The script of [Prepare] looks again, also for file
// systems that are on no disk.
func CheckMounts(disks []facts.Disk, target facts.Disk) error {
	var err error
	for _, d := range disks {
		if d.Path == target.Path {
			continue
		}
		walk(d, func(v facts.Volume) {
			for _, m := range v.Mounts {
				if err == nil && belowMnt(m) {
					err = refuse("%s on %s is mounted at %s, where the new system is to be; unmount it on the machine first", v.Device, d.Path, m)
				}
			}
		})
	}
	return err
}

func belowMnt(dir string) bool { return dir == "/mnt" || strings.HasPrefix(dir, "/mnt/") }

func (l Layout) valid() error {
	switch l.FileSystem {
	case "", Ext4, Btrfs, XFS:
	default:
		return fmt.Errorf("no layout is called %q; say ext4, btrfs or xfs", l.FileSystem)
	}
	if l.Firmware != UEFI && l.Firmware != BIOS {
		return fmt.Errorf("no firmware is called %q; say uefi or bios", l.Firmware)
	}
	if l.Swap < 0 || l.Swap > 0 && l.Swap < minSwap {
		return fmt.Errorf("a swap of %d bytes is too small; give it at least %s", l.Swap, Size(minSwap))
	}
	return nil
}

func (l Layout) checkSize(d facts.Disk, o Options) error {
	parts := l.Partitions(NewPin(d))
	root := parts[len(parts)-1].Size
	need := max(o.Root, minRoot)
	if root >= need {
		return nil
	}
	return refuse("%s has %s; the layout (%s) needs %s", d.Path, Size(d.Size), l, Size(d.Size-root+need))
}

// use returns what the running system needs of the disk, "" if nothing.
func use(d facts.Disk) string {
	ours := slices.ContainsFunc(d.Partitions, func(v facts.Volume) bool { return v.PartLabel == "nixctl-root" })
	var found []string
	walk(d, func(v facts.Volume) {
		for _, m := range v.Mounts {
			left := ours && belowMnt(m) // by an interrupted run
			if m != "[SWAP]" && !left {
				found = append(found, v.Device+" is mounted at "+m)
			}
		}
		if v.Kind == "mpath" {
			found = append(found, v.Device+" is one of several paths to it")
		}
	})
	return strings.Join(found, ", ")
}

// walk calls f for all that is on the disk, from the bottom up.
func walk(d facts.Disk, f func(facts.Volume)) {
	var each func(v facts.Volume)
	each = func(v facts.Volume) {
		f(v)
		for _, h := range v.Holders {
			each(h)
		}
	}
	each(d.Volume)
	for _, p := range d.Partitions {
		each(p)
	}
}

// Content describes what is on the disk: `gpt with 2 partitions: vfat "ESP",
// crypto_LUKS (crypt /dev/mapper/root: ext4 "nixos")`. It is "" if the disk has no
// known content, which does not mean that it is empty: a raw database and plain
// dm-crypt have no signature. So the script of [Prepare] looks at the bytes.
func Content(d facts.Disk) string {
	var parts []string
	if d.FileSystem != "" || len(d.Holders) > 0 {
		parts = append(parts, content(d.Volume))
	}
	if d.Table != "" || len(d.Partitions) > 0 {
		parts = append(parts, tableContent(d))
	}
	return strings.Join(parts, ", ")
}

func tableContent(d facts.Disk) string {
	table := d.Table
	if table == "" {
		table = "a partition table"
	}
	switch n := len(d.Partitions); n {
	case 0:
		return table + " without partitions"
	case 1:
		table += " with 1 partition: "
	default:
		table += fmt.Sprintf(" with %d partitions: ", n)
	}
	var parts []string
	for _, p := range d.Partitions {
		parts = append(parts, content(p))
	}
	return table + strings.Join(parts, ", ")
}

func content(v facts.Volume) string {
	s := v.FileSystem
	if s == "" {
		s = "unknown"
	}
	if label := v.Label; label != "" {
		s += fmt.Sprintf(" %q", label)
	} else if v.PartLabel != "" {
		s += fmt.Sprintf(" %q", v.PartLabel)
	}
	if slices.Contains(v.Mounts, "[SWAP]") {
		s += " (swapping)"
	}
	var on []string
	for _, h := range v.Holders {
		on = append(on, fmt.Sprintf("%s %s: %s", h.Kind, h.Device, content(h)))
	}
	if len(on) > 0 {
		s += " (" + strings.Join(on, ", ") + ")"
	}
	return s
}
