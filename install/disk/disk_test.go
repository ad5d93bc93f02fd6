package disk

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/nixctl/nixctl/agent/facts"
)

const gib = 1 << 30

var (
	nvme = facts.Disk{Path: "/dev/nvme0n1", Model: "Samsung SSD", Serial: "S6Z1", WWN: "eui.1", Size: 512 * gib,
		Links: []string{"/dev/disk/by-id/nvme-Samsung_S6Z1", "/dev/disk/by-path/pci-1"}}
	sata  = facts.Disk{Path: "/dev/sda", Model: "WDC", Serial: "WD1", WWN: "0x5000C500", Size: 2048 * gib}
	stick = facts.Disk{Path: "/dev/sdb", Model: "Ultra Fit", Serial: "4C53", Size: 32 * gib, BootMedium: true}
	cd    = facts.Disk{Path: "/dev/sr0", Size: gib, ReadOnly: true}
	bare  = facts.Disk{Path: "/dev/vda", Size: 16 * gib, Links: []string{"/dev/disk/by-path/pci-2"}, Sequence: 4}
)

func TestFind(t *testing.T) {
	twin := sata
	twin.Path = "/dev/sdc"
	tests := []struct {
		ref   string
		disks []facts.Disk
		want  string // the path, or part of the error
	}{
		{"/dev/sda", []facts.Disk{nvme, sata}, "/dev/sda"},
		{"/dev/disk/by-id/nvme-Samsung_S6Z1", []facts.Disk{nvme, sata}, "/dev/nvme0n1"},
		{"serial:WD1", []facts.Disk{nvme, sata}, "/dev/sda"},
		{"wwn:5000c500", []facts.Disk{nvme, sata}, "/dev/sda"},
		{"wwn:0x5000c500", []facts.Disk{nvme, sata}, "/dev/sda"},
		{"only", []facts.Disk{nvme, stick, cd}, "/dev/nvme0n1"},
		{"smallest", []facts.Disk{nvme, sata, stick, cd}, "/dev/nvme0n1"},
		{"only", []facts.Disk{nvme, sata}, `2 disks are "only"; name one by its path or serial` + "\n  /dev/nvme0n1  512 GiB  Samsung SSD  serial S6Z1\n  /dev/sda  2 TiB"},
		{"only", []facts.Disk{stick}, "no disk is \"only\"\n  /dev/sdb  32 GiB  Ultra Fit  serial 4C53  boot medium"},
		{"smallest", []facts.Disk{sata, twin}, "2 disks are"},
		{"smallest", nil, "the machine has no disks"},
		{"serial:WD1", []facts.Disk{sata, twin}, "2 disks are"},
		{"serial:", []facts.Disk{bare}, "names no disk"},
		{"wwn:", []facts.Disk{bare}, "names no disk"},
		{"wwn:0x", []facts.Disk{bare}, "names no disk"},
		{"wwn:0X", []facts.Disk{bare}, "names no disk"},
		{"sda", []facts.Disk{sata}, "names no disk"},
		{"", []facts.Disk{sata}, "names no disk"},
		{"/dev/sdx", []facts.Disk{sata}, "no disk is \"/dev/sdx\"\n  /dev/sda"},
		{"/dev/sdb", []facts.Disk{sata, stick}, "/dev/sdb"}, // Check refuses it, with the reason
	}
	for _, tt := range tests {
		d, err := Find(tt.disks, tt.ref)
		switch {
		case err != nil && !errors.Is(err, ErrRefused):
			t.Errorf("%q: %v is not ErrRefused", tt.ref, err)
		case err != nil && !strings.Contains(err.Error(), tt.want), err == nil && d.Path != tt.want:
			t.Errorf("%q: got %q and error %v, want %q", tt.ref, d.Path, err, tt.want)
		}
	}
}

// with returns a copy of a disk that has the partitions.
func with(d facts.Disk, parts ...facts.Volume) facts.Disk {
	d.Table, d.Partitions = "gpt", parts
	return d
}

func TestCheck(t *testing.T) {
	uefi := Layout{Firmware: UEFI}
	swapping := facts.Volume{Device: "/dev/dm-0", Kind: "lvm", FileSystem: "swap", Mounts: []string{"[SWAP]"}}
	raid := facts.Volume{Device: "/dev/nvme0n1p2", FileSystem: "linux_raid_member", Holders: []facts.Volume{
		{Device: "/dev/md0", Kind: "raid1", FileSystem: "LVM2_member", Holders: []facts.Volume{swapping}}}}
	mounted := facts.Volume{Device: "/dev/nvme0n1p1", FileSystem: "ext4", Mounts: []string{"/data"}}
	stacked := facts.Volume{Device: "/dev/nvme0n1p1", Holders: []facts.Volume{{Device: "/dev/mapper/x", Kind: "crypt", Mounts: []string{"/data"}}}}
	ours := facts.Volume{Device: "/dev/nvme0n1p2", PartLabel: "nixctl-root", FileSystem: "ext4", Mounts: []string{"/mnt", "/mnt/nix"}}
	theirs := facts.Volume{Device: "/dev/nvme0n1p2", PartLabel: "data", FileSystem: "ext4", Mounts: []string{"/mnt"}}
	windows := []facts.Volume{{FileSystem: "vfat", Label: "SYSTEM"}, {FileSystem: "BitLocker", PartLabel: "Basic data partition"}, {}}
	readOnly := nvme
	readOnly.ReadOnly = true
	small := nvme
	small.Size = gib
	whole := nvme
	whole.FileSystem, whole.Label = "iso9660", "nixos"
	tests := []struct {
		name   string
		disk   facts.Disk
		layout Layout
		wipe   bool
		want   string // part of the error, "" for none
	}{
		{"empty", nvme, uefi, false, ""},
		{"no identity", bare, uefi, false, ""},
		{"boot medium", stick, uefi, true, "/dev/sdb is the medium that the installer was booted from"},
		{"read-only", readOnly, uefi, true, "is read-only"},
		{"mounted", with(nvme, mounted), uefi, true, "in use: /dev/nvme0n1p1 is mounted at /data"},
		{"mounted above", with(nvme, stacked), uefi, true, "in use: /dev/mapper/x is mounted at /data"},
		{"interrupted run", with(nvme, ours), uefi, true, ""},
		{"another's /mnt", with(nvme, theirs), uefi, true, "mounted at /mnt"},
		{"multipath", with(nvme, facts.Volume{Holders: []facts.Volume{{Device: "/dev/mapper/mpatha", Kind: "mpath"}}}), uefi, true, "one of several paths"},
		{"old stack", with(nvme, raid), uefi, true, ""},
		{"old stack kept", with(nvme, raid), uefi, false,
			"holds gpt with 1 partition: linux_raid_member (raid1 /dev/md0: LVM2_member (lvm /dev/dm-0: swap (swapping))); to destroy that, say --wipe"},
		{"windows", with(nvme, windows...), uefi, false, `gpt with 3 partitions: vfat "SYSTEM", BitLocker "Basic data partition", unknown;`},
		{"windows wiped", with(nvme, windows...), uefi, true, ""},
		{"whole disk", whole, uefi, false, `holds iso9660 "nixos"`},
		{"empty table", with(nvme), uefi, false, "gpt without partitions"},
		{"small", small, uefi, false, "/dev/nvme0n1 has 1 GiB; the layout (GPT: ESP, root ext4) needs 1.5 GiB"},
		{"small for swap", bare, Layout{Firmware: BIOS, Swap: 16 * gib}, false, "needs 17.0 GiB"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.layout.Check(tt.disk, Options{Wipe: tt.wipe})
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tt.want != "" && (!errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestCheckMounts(t *testing.T) {
	at := func(d facts.Disk, dir string) facts.Disk {
		return with(d, facts.Volume{Device: d.Path + "1", Holders: []facts.Volume{{Device: "/dev/mapper/x", Mounts: []string{dir}}}})
	}
	tests := []struct {
		disks []facts.Disk
		want  string
	}{
		{[]facts.Disk{nvme, sata}, ""},
		{[]facts.Disk{at(nvme, "/mnt"), at(sata, "/mnt2")}, ""},
		{[]facts.Disk{nvme, at(sata, "/mnt")}, "/dev/mapper/x on /dev/sda is mounted at /mnt,"},
		{[]facts.Disk{at(sata, "/mnt/boot"), nvme}, "is mounted at /mnt/boot,"},
	}
	for _, tt := range tests {
		err := CheckMounts(tt.disks, nvme)
		if (err == nil) != (tt.want == "") || err != nil && (!errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("got %v, want %q", err, tt.want)
		}
	}
}

func TestCheckLayout(t *testing.T) {
	for _, l := range []Layout{{}, {Firmware: "coreboot"}, {Firmware: UEFI, FileSystem: "ntfs"}, {Firmware: UEFI, Swap: -1}, {Firmware: UEFI, Swap: 512}} {
		if err := l.Check(nvme, Options{}); err == nil || errors.Is(err, ErrRefused) {
			t.Errorf("%+v: got error %v, want one that is not about the disk", l, err)
		}
	}
	if err := (Layout{Firmware: UEFI}).Check(nvme, Options{Root: 1024 * gib}); !errors.Is(err, ErrRefused) {
		t.Errorf("room for 1 TiB was not asked for: %v", err)
	}
}

func TestPartitions(t *testing.T) {
	tests := []struct {
		layout Layout
		want   string
	}{
		{Layout{Firmware: UEFI}, "esp 512 MiB vfat /boot, root 63.5 GiB ext4 /"},
		{Layout{Firmware: BIOS, FileSystem: Btrfs, Swap: 4 * gib}, "bios 1 MiB  , swap 4 GiB swap , root 60.0 GiB btrfs /"},
		{Layout{Firmware: UEFI, Encrypt: true, Swap: 4 * gib}, "esp 512 MiB vfat /boot, swap 4 GiB  , root 59.5 GiB crypto_LUKS /"},
		{Layout{Firmware: BIOS, Encrypt: true}, "bios 1 MiB  , boot 1 GiB ext4 /boot, root 63.0 GiB crypto_LUKS /"},
		{Layout{Firmware: BIOS, FileSystem: XFS}, "bios 1 MiB  , boot 1 GiB ext4 /boot, root 63.0 GiB xfs /"},
	}
	for _, tt := range tests {
		var got []string
		sum := int64(0)
		for _, p := range tt.layout.Partitions(Pin{Size: 64 * gib}) {
			got = append(got, strings.Join([]string{strings.TrimPrefix(p.Label, "nixctl-"), Size(p.Size), p.Holds, p.Mount}, " "))
			sum += p.Size
		}
		if strings.Join(got, ", ") != tt.want {
			t.Errorf("%s: got %s, want %s", tt.layout, strings.Join(got, ", "), tt.want)
		}
		if sum != 64*gib-reserved {
			t.Errorf("%s: the partitions have %d bytes", tt.layout, sum)
		}
	}
}

func TestUUIDs(t *testing.T) {
	l := Layout{Firmware: UEFI, ID: "a"}
	seen := map[string]bool{}
	for _, l := range []Layout{l, {Firmware: UEFI, ID: "b"}} {
		for _, pin := range []Pin{{Serial: "1", Size: gib}, {Serial: "2", Size: gib}} {
			for _, id := range append([]string{l.tableID(pin)}, l.Partitions(pin)[0].UUID, l.Partitions(pin)[1].UUID) {
				if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(id) || seen[id] {
					t.Errorf("%q is malformed or not the only one", id)
				}
				seen[id] = true
			}
		}
	}
	again := Pin{Serial: "1", Size: gib}
	if first := l.tableID(again); first != l.tableID(again) {
		t.Error("the same table got two ids")
	}
}

func TestPin(t *testing.T) {
	if p := NewPin(nvme); p.Path != "/dev/disk/by-id/nvme-Samsung_S6Z1" || p.Weak() || p.String() != "disk with serial S6Z1 (512 GiB)" {
		t.Errorf("got %+v, %s", p, p)
	}
	if p := NewPin(bare); p.Path != "/dev/disk/by-path/pci-2" || !p.Weak() || p.String() != "disk at /dev/disk/by-path/pci-2 (16 GiB)" {
		t.Errorf("got %+v, %s", p, p)
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0 bytes", 1023: "1023 bytes", 512 << 20: "512 MiB", 1000204886016: "931.5 GiB", 2 << 40: "2 TiB"} {
		if got := Size(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}
