package disk

import (
	_ "embed"
	"fmt"
	"strings"

	"github.com/nixctl/nixctl/install/command"
)

//go:embed release.sh
var releaseScript string

//go:embed empty.sh
var emptyScript string

//go:embed mount.sh
var mountScript string

//go:embed ours.sh
var oursScript string

// Prepare returns a POSIX shell script that makes the layout on the pinned disk.
// With wipe it destroys what is there: it takes down what old RAID, LVM, LUKS or
// swap still hold the disk, and refuses it if it is then not free. Without, it
// refuses a disk that has partitions, a known signature, or anything but zeros in
// its first or last MiB. It also refuses if something else is mounted at /mnt. What
// it does it prints, a line each.
//
// The file keyFile on the machine holds the passphrase of an encrypted layout,
// all of its bytes: no newline at the end. The script removes it, however it
// ends. Another layout needs no file.
func Prepare(p Pin, l Layout, keyFile string, wipe bool) string {
	b := &strings.Builder{}
	mapping := ""
	if l.Encrypt {
		mapping = "root"
		fmt.Fprintf(b, "keyfile=%s\ntrap 'rm -f \"$keyfile\"' EXIT\ntrap 'exit 1' HUP INT TERM\n", command.Quote(keyFile))
	}
	b.WriteString(p.Guard())
	if !wipe {
		b.WriteString(emptyScript)
	}
	fmt.Fprintf(b, "mapping=%s\n%s", command.Quote(mapping), releaseScript)
	b.WriteString(l.partitionScript(p))
	b.WriteString(l.formatScript(p))
	b.WriteString("\nexec 9>&- # udev may look again\necho \"$device is ready\"\n")
	return b.String()
}

// PrepareAndMount returns a script that does what those of [Prepare] and [Mount] do
// one after the other.
func PrepareAndMount(p Pin, l Layout, keyFile string, wipe bool) string {
	return Prepare(p, l, keyFile, wipe) + mountScript + l.attachScript(p)
}

// partitionScript writes the table. sfdisk wipes what shows up at the beginning
// of new partitions too, and itself refuses a disk in use.
func (l Layout) partitionScript(p Pin) string {
	b := &strings.Builder{}
	fmt.Fprintf(b, "\necho \"writing a new partition table\"\n")
	fmt.Fprintf(b, "sfdisk --quiet --wipe always --wipe-partitions always \"$device\" <<EOF\n")
	fmt.Fprintf(b, "label: gpt\nlabel-id: %s\n", l.tableID(p))
	parts := l.Partitions(p)
	for i, part := range parts {
		size := fmt.Sprintf("size=%dMiB, ", part.Size/mib)
		if i == len(parts)-1 {
			size = "" // all that is left
		}
		fmt.Fprintf(b, "%stype=%s, uuid=%s, name=%q\n", size, part.kind, part.UUID, part.Label)
	}
	b.WriteString("EOF\n")
	fmt.Fprintf(b, "[ -b \"${part}%[1]d\" ] || udevadm settle --timeout=10\n", len(parts))
	return b.String()
}

// formatScript makes the file systems. None discards blocks first: that takes
// minutes on some disks, and wiping is not what it is for.
func (l Layout) formatScript(p Pin) string {
	b := &strings.Builder{}
	for _, part := range l.Partitions(p) {
		device := fmt.Sprintf(`"${part}%d"`, part.Number)
		if part.Holds == "" {
			continue
		}
		fmt.Fprintf(b, "\necho \"making %s on ${part}%d (%s)\"\n", part.Holds, part.Number, part.Label)
		switch part.Label {
		case "nixctl-esp":
			fmt.Fprintf(b, "mkfs.vfat -F 32 -n ESP %s >/dev/null\n", device)
		case "nixctl-boot":
			fmt.Fprintf(b, "%s %s\n", makeExt4("boot"), device)
		case "nixctl-swap":
			fmt.Fprintf(b, "mkswap --label swap %s >/dev/null\n", device)
		case "nixctl-root":
			b.WriteString(l.formatRoot(device))
		}
	}
	return b.String()
}

func makeExt4(label string) string {
	return "mkfs.ext4 -q -L " + label + " -E nodiscard,lazy_itable_init=1,lazy_journal_init=1"
}

func (l Layout) formatRoot(device string) string {
	b := &strings.Builder{}
	if l.Encrypt {
		b.WriteString(encrypt + "cryptsetup luksFormat --batch-mode --type luks2 --pbkdf argon2id --pbkdf-memory \"$memory\" \\\n" +
			"\t--key-file - " + device + " <\"$keyfile\"\n" + openRoot(device))
		device = rootMapping
	}
	switch l.fileSystem() {
	case Btrfs:
		fmt.Fprintf(b, "mkfs.btrfs -q -K -L nixos %s\n", device)
		fmt.Fprintf(b, "mount -t btrfs -o X-mount.mkdir %s /mnt\n", device)
		for _, v := range subvolumes {
			fmt.Fprintf(b, "btrfs -q subvolume create /mnt/%s\n", v.name)
		}
		b.WriteString("umount /mnt\n")
	case XFS:
		fmt.Fprintf(b, "mkfs.xfs -q -K -L nixos %s\n", device)
	default:
		fmt.Fprintf(b, "%s %s\n", makeExt4("nixos"), device)
	}
	return b.String()
}

// rootMapping is the name that the installed system gives it too, since
// nixos-generate-config takes it over.
const rootMapping = "/dev/mapper/root"

var subvolumes = []struct{ name, directory string }{{"@", ""}, {"@home", "/home"}, {"@nix", "/nix"}}

// encrypt sets $memory, in KiB, to a quarter of what is available and to 1 GiB,
// cryptsetup's own limit, at most: the installer lives in memory as well.
const encrypt = `while read -r key value rest; do
	if [ "$key" = MemAvailable: ]; then memory=$((value / 4)); fi
done </proc/meminfo
if [ "$memory" -gt 1048576 ]; then memory=1048576; fi
`

func openRoot(device string) string {
	return "cryptsetup open --key-file - " + device + " root <\"$keyfile\"\n"
}

// Mount returns a POSIX shell script that mounts the layout at /mnt, as far as it
// is not mounted yet, and turns on its swap. It takes the partitions of the
// pinned disk that [Prepare] made for the same pin and layout, and no others.
//
// The passphrase in keyFile is needed only if the encrypted root is not open any
// more, as after a restart of the installer; if the file is there, the script
// removes it.
func Mount(p Pin, l Layout, keyFile string) string {
	b := &strings.Builder{}
	b.WriteString(p.find("/sys"))
	fmt.Fprintf(b, "table=%s\n%s%s", strings.ToUpper(l.tableID(p)), mountScript, oursScript)
	if l.Encrypt {
		device := l.rootPartition(p)
		fmt.Fprintf(b, "keyfile=%s\ntrap 'rm -f \"$keyfile\"' EXIT\n", command.Quote(keyFile))
		fmt.Fprintf(b, "if ! on %s root; then\n\t[ -e \"$keyfile\" ] || refuse \"the encrypted root is closed; send its passphrase again\"\n\t%sfi\n", device, openRoot(device))
	}
	b.WriteString(l.attachScript(p))
	return b.String()
}

// rootPartition is the one for the root, as a word of a script.
func (l Layout) rootPartition(p Pin) string {
	root, _ := l.partition(p, "nixctl-root")
	return fmt.Sprintf(`"${part}%d"`, root.Number)
}

// attachScript mounts what is ready; it goes after mountScript.
func (l Layout) attachScript(p Pin) string {
	b := &strings.Builder{}
	b.WriteString("\n")
	device := l.rootPartition(p)
	if l.Encrypt {
		device = rootMapping
	}
	if l.fileSystem() == Btrfs {
		for _, v := range subvolumes {
			fmt.Fprintf(b, "attach %s /mnt%s btrfs subvol=%s,compress=zstd\n", device, v.directory, v.name)
		}
	} else {
		fmt.Fprintf(b, "attach %s /mnt %s defaults\n", device, l.fileSystem())
	}
	if esp, ok := l.partition(p, "nixctl-esp"); ok { // its files have no owner: the random seed is for root only
		fmt.Fprintf(b, "attach \"${part}%d\" /mnt/boot vfat umask=0077\n", esp.Number)
	}
	if boot, ok := l.partition(p, "nixctl-boot"); ok {
		fmt.Fprintf(b, "attach \"${part}%d\" /mnt/boot ext4 defaults\n", boot.Number)
	}
	if swap, ok := l.partition(p, "nixctl-swap"); ok && swap.Holds != "" {
		fmt.Fprintf(b, "if ! swapping \"${part}%[1]d\"; then\n\techo \"swapping on ${part}%[1]d\"\n\tswapon \"${part}%[1]d\"\nfi\n", swap.Number)
	}
	b.WriteString("udevadm settle --timeout=10 || : # nixos-generate-config wants the links below /dev/disk\n")
	return b.String()
}

// Unmount returns a POSIX shell script that writes everything out and lets go of
// the disk, as far as that was not done before.
func Unmount(p Pin, l Layout) string {
	b := &strings.Builder{}
	b.WriteString(p.find("/sys"))
	fmt.Fprintf(b, "table=%s\n%s%s\nsync\n", strings.ToUpper(l.tableID(p)), mountScript, oursScript)
	if swap, ok := l.partition(p, "nixctl-swap"); ok && swap.Holds != "" {
		fmt.Fprintf(b, "if swapping \"${part}%[1]d\"; then\n\techo \"ending swap on ${part}%[1]d\"\n\tswapoff \"${part}%[1]d\"\nfi\n", swap.Number)
	}
	b.WriteString("mounted /mnt\nif [ -n \"$line\" ]; then\n\techo \"unmounting /mnt\"\n\tumount -R /mnt\nfi\n")
	if l.Encrypt {
		fmt.Fprintf(b, "if on %s root; then\n\techo \"closing %s\"\n\tcryptsetup close root\nfi\n", l.rootPartition(p), rootMapping)
	}
	return b.String()
}
