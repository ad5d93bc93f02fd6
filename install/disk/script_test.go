package disk

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unsafe"
)

const mountTable = "findmnt --raw --noheadings --output TARGET,SOURCE,FSTYPE --submounts /mnt\n"

func TestLayouts(t *testing.T) {
	tests := []struct {
		name   string
		layout Layout
		kernel []string
		mounts []string // %s stands for the disk and the p of its partitions
		holds  []string // what blkid sees on each partition, or on what is opened on it
	}{
		{"uefi-ext4", Layout{Firmware: UEFI}, []string{"vfat"},
			[]string{"/mnt %s2 ext4", "/mnt/boot %s1 vfat"}, []string{"vfat ESP", "ext4 nixos"}},
		{"bios-ext4-swap", Layout{Firmware: BIOS, FileSystem: Ext4, Swap: 16 << 20}, nil,
			[]string{"/mnt %s3 ext4"}, []string{"", "swap swap", "ext4 nixos"}},
		{"bios-btrfs", Layout{Firmware: BIOS, FileSystem: Btrfs}, []string{"btrfs"},
			[]string{"/mnt %s2[/@] btrfs", "/mnt/home %s2[/@home] btrfs", "/mnt/nix %s2[/@nix] btrfs"}, []string{"", "btrfs nixos"}},
		{"bios-xfs", Layout{Firmware: BIOS, FileSystem: XFS}, []string{"xfs"},
			[]string{"/mnt %s3 xfs", "/mnt/boot %s2 ext4"}, []string{"", "ext4 boot", "xfs nixos"}},
		{"uefi-btrfs-luks-swap", Layout{Firmware: UEFI, FileSystem: Btrfs, Swap: 16 << 20, Encrypt: true}, []string{"vfat", "btrfs", "device-mapper"},
			[]string{"/mnt /dev/mapper/root[/@] btrfs", "/mnt/boot %s1 vfat", "/mnt/home /dev/mapper/root[/@home] btrfs", "/mnt/nix /dev/mapper/root[/@nix] btrfs"},
			[]string{"vfat ESP", "", "crypto_LUKS "}},
		{"bios-ext4-luks", Layout{Firmware: BIOS, Encrypt: true}, []string{"device-mapper"},
			[]string{"/mnt /dev/mapper/root ext4", "/mnt/boot %s2 ext4"}, []string{"", "ext4 boot", "crypto_LUKS "}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			needs(t, "mkfs."+string(tt.layout.fileSystem()), "mkfs.vfat", "findmnt", "blkid")
			needsKernel(t, tt.kernel...)
			d := newDisk(t, 2500<<20)
			tt.layout.ID = t.Name()
			pin, key := d.pin(t), passphrase(t)
			bystander := newTwin(t)
			before := bystander.sum(t)

			mount := Mount(pin, tt.layout, key)
			out := scripts(t, PrepareAndMount(pin, tt.layout, key, false), mount, "echo TABLE\n"+mountTable+"cat /proc/swaps\n",
				Unmount(pin, tt.layout), Unmount(pin, tt.layout), "echo AFTER\n"+mountTable+"cat /proc/swaps; ls /sys/class/block/"+filepath.Base(d.path)+"*/holders\n"+"true")

			checkMounts(t, out, d.path+"p", tt.mounts)
			checkTable(t, d.path, tt.layout.Partitions(pin), tt.holds)
			if bystander.sum(t) != before {
				t.Error("another disk with the same labels was changed")
			}
			if _, err := os.Stat(key); tt.layout.Encrypt && err == nil {
				t.Error("the passphrase is still there")
			}
			swap := strings.Count(out, d.path+"p2") > 0 && strings.Contains(out, "swapping on "+d.path+"p2")
			if want := tt.layout.Swap > 0 && !tt.layout.Encrypt; swap != want {
				t.Errorf("swap is on: %v, want %v\n%s", swap, want, out)
			}
		})
	}
}

// newTwin returns a small disk whose partitions have the labels of ours.
func newTwin(t *testing.T) *loopDisk {
	t.Helper()
	d := newDisk(t, 32<<20)
	run(t, "sfdisk --quiet "+d.path+" <<EOF\nlabel: gpt\nsize=4MiB, name=nixctl-esp\nsize=4MiB, name=nixctl-swap\nname=nixctl-root\nEOF\n"+
		"mkswap -q --label swap "+d.path+"p2\nmkfs.ext4 -q -L nixos "+d.path+"p3\n")
	return d
}

// checkMounts compares the mounts between TABLE and AFTER, and that none are left.
func checkMounts(t *testing.T, out, disk string, want []string) {
	t.Helper()
	_, table, _ := strings.Cut(out, "TABLE\n")
	table, after, ok := strings.Cut(table, "AFTER\n")
	if !ok || strings.Contains(after, "/mnt") || strings.Contains(after, disk) || strings.Contains(after, "dm-") {
		t.Errorf("the disk is not free at the end:\n%s", out)
	}
	for _, w := range want {
		w = strings.ReplaceAll(w, "%s", disk)
		if !strings.Contains(table, w+"\n") {
			t.Errorf("%q is not mounted:\n%s", w, out)
		}
	}
	if n := strings.Count(table, "/mnt"); n < len(want) || strings.Count(table, "\n/mnt")+1 > len(want) {
		t.Errorf("want %d mounts:\n%s", len(want), table)
	}
}

// checkTable compares the partition table that sfdisk reads with the plan.
func checkTable(t *testing.T, path string, want []Partition, holds []string) {
	t.Helper()
	var dump struct {
		Table struct {
			Label      string
			SectorSize int64
			Partitions []struct {
				Node, Type, UUID, Name string
				Start, Size            int64
			}
		} `json:"partitiontable"`
	}
	if err := json.Unmarshal([]byte(run(t, "sfdisk --json "+path)), &dump); err != nil {
		t.Fatal(err)
	}
	parts := dump.Table.Partitions
	if dump.Table.Label != "gpt" || len(parts) != len(want) {
		t.Fatalf("got a %s table with %d partitions, want gpt with %d", dump.Table.Label, len(parts), len(want))
	}
	for i, w := range want {
		g := parts[i]
		if g.Name != w.Label || !strings.EqualFold(g.UUID, w.UUID) || g.Type != w.kind {
			t.Errorf("partition %d is %+v, want %+v", i+1, g, w)
		}
		// The last one also gets what is left over of the reserve.
		if diff := g.Size*512 - w.Size; diff < 0 || diff > reserved {
			t.Errorf("partition %d has %d bytes, want %d", i+1, g.Size*512, w.Size)
		}
		out, _ := try(t, "blkid -p -o value -s TYPE -s LABEL "+g.Node)
		if got := fields(out); got[0]+got[1] != strings.ReplaceAll(holds[i], " ", "") && got[1]+got[0] != strings.ReplaceAll(holds[i], " ", "") {
			t.Errorf("partition %d holds %q, want %q", i+1, out, holds[i])
		}
	}
}

func fields(s string) [2]string {
	f := append(strings.Fields(s), "", "")
	return [2]string{f[0], f[1]}
}

// TestPrepareTwice takes over what an interrupted run left mounted and swapping.
func TestPrepareTwice(t *testing.T) {
	needs(t)
	d := newDisk(t, 128<<20)
	l := Layout{Firmware: BIOS, Swap: 16 << 20, ID: "twice"}
	pin := d.pin(t)
	out := scripts(t, Prepare(pin, l, "", false), Mount(pin, l, ""), "mkdir /mnt/sub; mount -t tmpfs none /mnt/sub; : >/mnt/file", Prepare(pin, l, "", true),
		Mount(pin, l, ""), "ls -A /mnt", Unmount(pin, l))
	for _, want := range []string{"unmounting /mnt, left by an interrupted run", "ending swap on " + d.path + "p2", "lost+found"} {
		if !strings.Contains(out, want) {
			t.Errorf("missing %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "\nfile\n") {
		t.Errorf("the old content is still there:\n%s", out)
	}
}

// TestMountOnlyOurs refuses a disk that was partitioned by someone else since.
func TestMountOnlyOurs(t *testing.T) {
	needs(t)
	d := newTwin(t)
	out, code := try(t, Mount(d.pin(t), Layout{Firmware: BIOS, ID: "x"}, ""))
	if code != RefusedStatus || !strings.Contains(out, "does not have the partitions of this plan") {
		t.Errorf("exit status %d\n%s", code, out)
	}
}

func TestPrepareRefuses(t *testing.T) {
	needs(t, "blockdev")
	tests := []struct {
		name, want string
		prepare    func(t *testing.T, d *loopDisk) (script string)
	}{
		{"another size", "is another disk", func(t *testing.T, d *loopDisk) string {
			p := d.pin(t)
			p.Size += 512
			return Prepare(p, Layout{Firmware: BIOS}, "", true)
		}},
		{"another disk in its place", "was changed for another disk", func(t *testing.T, d *loopDisk) string {
			p := d.pin(t)
			run(t, "losetup -d "+d.path)
			run(t, "losetup --partscan "+d.path+" "+d.file)
			return Prepare(p, Layout{Firmware: BIOS}, "", true)
		}},
		{"gone", "is another disk", func(t *testing.T, d *loopDisk) string {
			p := d.pin(t)
			run(t, "losetup -d "+d.path)
			return Prepare(p, Layout{Firmware: BIOS}, "", true)
		}},
		{"no such serial", "there is no disk with serial S1", func(t *testing.T, d *loopDisk) string {
			p := d.pin(t)
			p.Serial = "S1"
			return Prepare(p, Layout{Firmware: BIOS}, "", true)
		}},
		{"read-only", "is read-only", func(t *testing.T, d *loopDisk) string {
			run(t, "losetup -d "+d.path)
			d.attach(t, "--read-only")
			return Prepare(d.pin(t), Layout{Firmware: BIOS}, "", true)
		}},
		{"mounted", "is mounted at /run/nixctl-test dir", func(t *testing.T, d *loopDisk) string {
			return "mount -o X-mount.mkdir " + d.path + "p3 '/run/nixctl-test dir'\n" + Prepare(d.pin(t), Layout{Firmware: BIOS}, "", true)
		}},
		{"mounted twice", "is mounted at /opt", func(t *testing.T, d *loopDisk) string {
			return "mount " + d.path + "p3 /mnt\nmount " + d.path + "p3 /opt\n" + Prepare(d.pin(t), Layout{Firmware: BIOS}, "", true)
		}},
		{"held in secret", "still in use", func(t *testing.T, d *loopDisk) string {
			// As a ZFS pool or a mount in another namespace does.
			f, err := os.OpenFile(d.path+"p1", os.O_RDWR|syscall.O_EXCL, 0)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { f.Close() })
			return Prepare(d.pin(t), Layout{Firmware: BIOS}, "", true)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newTwin(t)
			before := d.sum(t)
			out, code := try(t, tt.prepare(t, d))
			if code != RefusedStatus || !strings.Contains(out, tt.want) {
				t.Errorf("exit status %d, want %d and %q:\n%s", code, RefusedStatus, tt.want, out)
			}
			if d.sum(t) != before && !strings.Contains(tt.name, "mounted") {
				t.Error("the disk was changed") // mounting alone writes to ext4
			}
			if !strings.Contains(run(t, "blkid -p "+d.file), "gpt") {
				t.Error("the table is gone")
			}
		})
	}
}

// TestPrepareKeeps: without leave to wipe, and with something else at /mnt, nothing
// is written, and the passphrase is gone all the same.
func TestPrepareKeeps(t *testing.T) {
	needs(t, "blockdev", "cmp")
	tests := []struct {
		name, want, setup string // @ stands for the disk
		wipe              bool
	}{
		{"file system", "holds ext4; to destroy that, say --wipe", "mkfs.ext4 -q -F @", false},
		{"table", "holds gpt", "printf 'label: gpt\\nsize=4MiB\\n' | sfdisk --quiet @", false},
		{"partition without a table", "p7; to destroy that", "", false},
		{"data at the beginning", "holds data of unknown kind", "echo data | dd status=none of=@ bs=1 seek=5000", false},
		{"data at the end", "holds data of unknown kind", "echo data | dd status=none of=@ bs=1 seek=$(($(blockdev --getsize64 @) - 5))", false},
		{"tmpfs at /mnt", "none is mounted at /mnt,", "mount -t tmpfs none /mnt", true},
		{"below /mnt", "none is mounted at /mnt/nixctl", "mkdir -p '/mnt/nixctl test'; mount -t tmpfs none '/mnt/nixctl test'", true},
		{"tmpfs over ours", "none is mounted at /mnt,", "printf 'label: gpt\\nsize=16MiB, name=nixctl-root\\n' | sfdisk --quiet @; mkfs.ext4 -q @p1; mount @p1 /mnt; mount -t tmpfs none /mnt", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, key := newDisk(t, 64<<20), passphrase(t)
			t.Cleanup(func() { os.Remove("/mnt/nixctl test") })
			if tt.setup == "" {
				addPartition(t, d.path, 7)
			}
			const mark = "the script begins\n"
			prepare := Prepare(d.pin(t), Layout{Firmware: BIOS, Encrypt: true}, key, tt.wipe)
			out, code := try(t, strings.ReplaceAll("set -e\n"+tt.setup, "@", d.path)+"\nsync; echo "+mark+"sha256sum <"+d.path+"\n("+prepare+") || code=$?\nsha256sum <"+d.path+"\nexit $code\n")
			_, out, _ = strings.Cut(out, mark)
			if code != RefusedStatus || !strings.Contains(out, tt.want) {
				t.Errorf("exit status %d, want %d and %q:\n%s", code, RefusedStatus, tt.want, out)
			}
			if lines := strings.Split(strings.TrimSpace(out), "\n"); lines[0] != lines[len(lines)-1] {
				t.Errorf("the disk was changed:\n%s", out)
			}
			if _, err := os.Stat(key); err == nil {
				t.Error("the passphrase is still there")
			}
		})
	}
}

// addPartition tells the kernel of a partition of 1 MiB that is in no table, as
// addpart(8) does, which not every machine has (linux/blkpg.h).
func addPartition(t *testing.T, disk string, number int32) {
	t.Helper()
	f, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	part := struct {
		start, length  int64
		number         int32
		device, volume [64]byte
	}{start: 1 << 20, length: 1 << 20, number: number}
	const ioctl, add = 0x1269, 1 // BLKPG, BLKPG_ADD_PARTITION
	arg := struct {
		op, flags, size int32
		data            unsafe.Pointer
	}{op: add, size: int32(unsafe.Sizeof(part)), data: unsafe.Pointer(&part)}
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), ioctl, uintptr(unsafe.Pointer(&arg))); errno != 0 {
		t.Fatalf("add partition %d to %q: %v", number, disk, errno)
	}
}

// TestOldStacks prepares a disk over RAID, LVM, LUKS and swap that are active.
func TestOldStacks(t *testing.T) {
	needs(t, "mdadm", "lvm", "cryptsetup", "dmsetup")
	needsKernel(t, "device-mapper", "md")
	a, b := newDisk(t, 160<<20), newDisk(t, 160<<20)
	id := filepath.Base(a.path) // unique on this machine
	// Not in a namespace: the swap would lose its name with it.
	setup := exec.Command("sh", "-c", strings.NewReplacer("@A", a.path, "@B", b.path, "@ID", id).Replace(`set -eu
for d in @A @B; do printf 'label: gpt\nsize=8MiB\nname=raid\n' | sfdisk --quiet $d; done
mkswap -q @Ap1
swapon @Ap1
mdadm --create --quiet --run /dev/md/@ID --level=1 --raid-devices=2 --metadata=1.2 @Ap2 @Bp2
pvcreate -qq /dev/md/@ID
vgcreate -qq vg@ID /dev/md/@ID
lvcreate -qq -y -n old -L 64M vg@ID
printf secret | cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file - /dev/vg@ID/old
printf secret | cryptsetup open --key-file - /dev/vg@ID/old old@ID
mkfs.ext4 -q -L old /dev/mapper/old@ID
udevadm settle
`))
	if out, err := setup.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Cleanup(func() {
		exec.Command("sh", "-c", "cryptsetup close old"+id+"; dmsetup remove vg"+id+"-old; mdadm --stop /dev/md/"+id+"; swapoff "+a.path+"p1").Run()
	})
	pin, l := a.pin(t), Layout{Firmware: BIOS, ID: "over"}
	out := run(t, Prepare(pin, l, "", true))
	for _, want := range []string{"ending swap on", "closing /dev/mapper/old" + id, "closing /dev/mapper/vg" + id + "-old", "stopping RAID"} {
		if !strings.Contains(out, want) {
			t.Errorf("missing %q:\n%s", want, out)
		}
	}
	checkTable(t, a.path, l.Partitions(pin), []string{"", "ext4 nixos"})
	run(t, "udevadm settle")
	if left, _ := filepath.Glob("/sys/class/block/" + id + "/" + id + "p*/holders/*"); len(left) > 0 {
		t.Errorf("still held by %v", left)
	}
	if kept := run(t, "blkid -p -o value -s TYPE "+b.path+"p2"); kept != "linux_raid_member\n" {
		t.Errorf("the other disk of the RAID holds %q now", kept)
	}
}
