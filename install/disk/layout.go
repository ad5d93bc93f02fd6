package disk

import (
	"crypto/sha256"
	"fmt"
	"strings"
)

// A FileSystem is the kind of the root file system; "" means [Ext4].
type FileSystem string

const (
	Ext4  FileSystem = "ext4"
	Btrfs FileSystem = "btrfs" // with the subvolumes @, @home and @nix
	XFS   FileSystem = "xfs"
)

// A Firmware is what starts the installed system.
type Firmware string

const (
	UEFI Firmware = "uefi"
	BIOS Firmware = "bios"
)

// A Layout says how a disk is to be divided. There is always a GPT, whose
// partitions have labels that begin with "nixctl-".
//
// An encrypted root is LUKS2 and opened as /dev/mapper/root. The swap partition
// that goes with it is left empty: a swap in the clear would leak what the
// encryption is to protect, and one with the same passphrase would hang the boot
// of every configuration that does not know of it. The installed system is to
// use it with a random key, and so without hibernation:
//
//	swapDevices = [ { device = "/dev/disk/by-partuuid/..."; randomEncryption.enable = true; } ];
//
// where [Layout.Partitions] tells the UUID.
type Layout struct {
	FileSystem FileSystem
	Swap       int64 // bytes, 0 for none
	Encrypt    bool
	Firmware   Firmware
	// ID makes the UUIDs of the table and its partitions, together with the disk:
	// the same for the same ID and disk. The id of the run is a good one.
	ID string
}

// A Partition is one that a layout makes.
type Partition struct {
	Number int
	Label  string // the partition's: "nixctl-root"
	Size   int64  // bytes
	UUID   string // the partition's, as in /dev/disk/by-partuuid
	Holds  string // "vfat", "ext4", "swap", ...; "" if it is left empty
	Mount  string // on the installed system: "/boot"
	kind   string // GPT type
}

// The sizes of partitions, in bytes. NixOS keeps kernel and initrd of each
// generation, 50 to 100 MB, on what is mounted at /boot.
const (
	mib      = 1 << 20
	espSize  = 512 * mib
	biosSize = mib
	bootSize = 1024 * mib
	minRoot  = 1024 * mib
	minSwap  = mib
	reserved = 2 * mib // for the tables at both ends of the disk
)

// The types of partitions (UEFI 2.10, table 5.7; Discoverable Partitions
// Specification).
const (
	typeESP   = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
	typeBIOS  = "21686148-6449-6E6F-744E-656564454649"
	typeSwap  = "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F"
	typeLinux = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
)

// UEFI reports whether the layout is for UEFI firmware.
func (l Layout) UEFI() bool { return l.Firmware == UEFI }

func (l Layout) fileSystem() FileSystem {
	if l.FileSystem == "" {
		return Ext4
	}
	return l.FileSystem
}

// separateBoot reports whether GRUB needs a /boot of its own: it does not read
// LUKS2 with Argon2, and lags behind the features that mkfs.xfs turns on.
func (l Layout) separateBoot() bool {
	return !l.UEFI() && (l.Encrypt || l.FileSystem == XFS)
}

// String describes the layout for people.
func (l Layout) String() string {
	parts := []string{"BIOS boot"}
	if l.UEFI() {
		parts = []string{"ESP"}
	}
	if l.separateBoot() {
		parts = append(parts, "/boot ext4")
	}
	if l.Swap > 0 {
		parts = append(parts, fmt.Sprintf("swap %s", Size(l.Swap)))
	}
	root := "root " + string(l.fileSystem())
	if l.Encrypt {
		root += " on LUKS2"
	}
	return "GPT: " + strings.Join(append(parts, root), ", ")
}

// Partitions returns what the layout makes of the pinned disk, in order. The
// last one is the root and takes what is left, which is less than nothing if the
// disk is too small.
func (l Layout) Partitions(p Pin) []Partition {
	var parts []Partition
	add := func(part Partition) {
		part.Number = len(parts) + 1
		part.Label = "nixctl-" + part.Label
		part.UUID = l.uuid(p, part.Label)
		parts = append(parts, part)
	}
	if l.UEFI() {
		add(Partition{Label: "esp", Size: espSize, Holds: "vfat", Mount: "/boot", kind: typeESP})
	} else {
		add(Partition{Label: "bios", Size: biosSize, kind: typeBIOS})
	}
	if l.separateBoot() {
		add(Partition{Label: "boot", Size: bootSize, Holds: "ext4", Mount: "/boot", kind: typeLinux})
	}
	switch swap := l.Swap / mib * mib; {
	case swap > 0 && l.Encrypt: // not typeSwap, which systemd would use as it is
		add(Partition{Label: "swap", Size: swap, kind: typeLinux})
	case swap > 0:
		add(Partition{Label: "swap", Size: swap, Holds: "swap", kind: typeSwap})
	}
	rest := p.Size/mib*mib - reserved
	for _, part := range parts {
		rest -= part.Size
	}
	holds := string(l.fileSystem())
	if l.Encrypt {
		holds = "crypto_LUKS"
	}
	add(Partition{Label: "root", Size: rest, Holds: holds, Mount: "/", kind: typeLinux})
	return parts
}

// partition returns the one with the label.
func (l Layout) partition(p Pin, label string) (Partition, bool) {
	for _, part := range l.Partitions(p) {
		if part.Label == label {
			return part, true
		}
	}
	return Partition{}, false
}

// tableID is the UUID of the whole table.
func (l Layout) tableID(p Pin) string { return l.uuid(p, "") }

// uuid derives a UUID of version 8, in the free form of RFC 9562 section 5.8.
func (l Layout) uuid(p Pin, name string) string {
	h := sha256.Sum256(fmt.Appendf(nil, "nixctl %q %q %q %q %d %q", l.ID, p.Path, p.Serial, p.WWN, p.Size, name))
	h[6] = h[6]&0x0f | 0x80
	h[8] = h[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", h[:4], h[4:6], h[6:8], h[8:10], h[10:16])
}

// Size writes bytes for people, in powers of 1024: "512 MiB", "1.8 TiB".
func Size(n int64) string {
	units := []string{"bytes", "KiB", "MiB", "GiB", "TiB", "PiB"}
	f, u := float64(n), 0
	for f >= 1024 && u < len(units)-1 {
		f, u = f/1024, u+1
	}
	if u == 0 || f == float64(int64(f)) {
		return fmt.Sprintf("%.0f %s", f, units[u])
	}
	return fmt.Sprintf("%.1f %s", f, units[u])
}
