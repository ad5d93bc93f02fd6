package facts

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"
)

func load(t *testing.T, name string) Facts {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	f, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestMachine(t *testing.T) {
	got := load(t, "usb-stick.txt")
	got.Disks = nil
	want := Facts{
		Product: "LENOVO 21AH00", Serial: "PF3ABCDE", UUID: "4c4c4544-0000-2010-8020-80c04f202020",
		Architecture: "x86_64-linux", Kernel: "6.12.60", CPUs: 8,
		Memory: 16000000 << 10, MemoryAvailable: 15000000 << 10, StoreAvailable: 3997816 << 10,
		Firmware: "uefi", SecureBoot: true, TPM: "2.0", Clock: time.Unix(1767225600, 0).UTC(),
		BootID: "1fec09a5-b5db-45a6-b959-d29071798729", MachineID: "0123456789abcdef0123456789abcdef",
		Hostname: "web1", NixOSVersion: "25.11.20260101.abcdef0", Installer: true,
		NICs: []NIC{
			{Name: "enp1s0", MAC: "52:54:00:12:34:56", Up: true, Addresses: []string{"192.0.2.10", "fe80::5054:ff:fe12:3456"}},
			{Name: "wlp2s0", MAC: "52:54:00:12:34:57", Addresses: []string{}},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestDisks(t *testing.T) {
	tests := []struct {
		file string
		want []string // as summary writes them
	}{
		{"usb-stick.txt", []string{"/dev/nvme0n1 S6Z1NJ0W eui.0025384331408197 gpt 2 parts", "/dev/sda 4C530001  dos 2 parts boot"}},
		{"copied-to-ram.txt", []string{"/dev/nvme0n1 S6Z1NJ0W eui.0025384331408197 gpt 2 parts", "/dev/sda 4C530001  dos 2 parts boot"}},
		{"ventoy.txt", []string{"/dev/nvme0n1 S6Z1NJ0W eui.0025384331408197 gpt 2 parts", "/dev/sdb E0D5  dos 2 parts boot"}},
		{"cd.txt", []string{"/dev/mmcblk0    0 parts", "/dev/sr0   PMBR 0 parts boot read-only", "/dev/vda VD1   0 parts"}},
		{"raid.txt", []string{"/dev/nvme0n1 rootdisk nvme.1b36-726f6f746469736b-51454d55204e564d65204374726c-00000001  0 parts boot",
			"/dev/nvme1n1 payload nvme.1b36-7061796c6f6164-51454d55204e564d65204374726c-00000001  0 parts",
			"/dev/nvme2n1 NVME1 nvme.1b36-4e564d4531-51454d55204e564d65204374726c-00000001  0 parts",
			"/dev/sda SCSI1 0x5000c50015ea71ad  0 parts", "/dev/sdb SATA1 0x5000c50015ea71ac gpt 2 parts", "/dev/sdc SATA2  gpt 2 parts", "/dev/vda VIRT1  dos 3 parts"}},
	}
	for _, tt := range tests {
		t.Run(tt.file, func(t *testing.T) {
			var got []string
			for _, d := range load(t, tt.file).Disks {
				got = append(got, summary(d))
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
		})
	}
}

func summary(d Disk) string {
	s := strings.Join([]string{d.Path, d.Serial, d.WWN, d.Table, string(rune('0' + len(d.Partitions))), "parts"}, " ")
	if d.BootMedium {
		s += " boot"
	}
	if d.ReadOnly {
		s += " read-only"
	}
	return s
}

func find(t *testing.T, disks []Disk, path string) Disk {
	t.Helper()
	for _, d := range disks {
		if d.Path == path {
			return d
		}
	}
	t.Fatalf("no disk %s in %+v", path, disks)
	return Disk{}
}

// TestStack looks at a disk with RAID, LVM, LUKS and swap, as it was recorded.
func TestStack(t *testing.T) {
	disks := load(t, "raid.txt").Disks
	v := find(t, disks, "/dev/sdb").Partitions[1]
	var got []string
	for {
		got = append(got, v.Kind+" "+v.FileSystem+" "+v.Label+strings.Join(v.Mounts, ""))
		if len(v.Holders) == 0 {
			break
		}
		v = v.Holders[0]
	}
	want := "part linux_raid_member (none):0, raid1 LVM2_member , lvm crypto_LUKS , crypt ext4 old root"
	if strings.Join(got, ", ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, ", "), want)
	}
	swap := find(t, disks, "/dev/sdb").Partitions[1].Holders[0].Holders[1]
	if !reflect.DeepEqual(swap.Mounts, []string{"[SWAP]"}) {
		t.Errorf("swap in use is mounted at %q", swap.Mounts)
	}
	vda := find(t, disks, "/dev/vda")
	if got := vda.Partitions[0]; got.Label != "e?[31mvil" || !reflect.DeepEqual(got.Mounts, []string{"/media"}) {
		t.Errorf("a label that steers terminals became %q at %q", got.Label, got.Mounts)
	}
	if vda.Transport != "virtio" || vda.Size != 3<<30 || vda.SectorSize != 512 || vda.Sequence == 0 {
		t.Errorf("got %+v", vda)
	}
	if want := []string{"/dev/disk/by-id/virtio-VIRT1"}; len(vda.Links) == 0 || vda.Links[0] != want[0] {
		t.Errorf("got links %q, want %q first", vda.Links, want)
	}
}

func TestLinks(t *testing.T) {
	d := find(t, load(t, "usb-stick.txt").Disks, "/dev/nvme0n1")
	want := []string{"/dev/disk/by-id/nvme-Samsung_SSD_990_PRO_1TB_S6Z1NJ0W", "/dev/disk/by-id/nvme-eui.0025384331408197", "/dev/disk/by-path/pci-0000:01:00.0-nvme-1"}
	if !reflect.DeepEqual(d.Links, want) {
		t.Errorf("got %q, want %q", d.Links, want)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, in := range map[string]string{
		"nothing":   "",
		"cut":       "#= files\n#= lsblk\n{\"blockdevices\":[]}\n",
		"no lsblk":  "#= lsblk\n#= end\n",
		"not json":  "#= lsblk\n{]\n#= end\n",
		"bad field": "#= lsblk\n{\"blockdevices\":[{\"name\":{}}]}\n#= end\n",
		"too long":  strings.Repeat("x", maxOutput) + "\n#= end\n",
	} {
		if _, err := Parse([]byte(in)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got error %v, want %v", name, err, ErrMalformed)
		}
	}
}

func TestCountCPUs(t *testing.T) {
	for in, want := range map[string]int{"0": 1, "0-3": 4, "0-3,8-11,64": 9, "": 0, "3-1": 0, "x": 0, "0-99999999": 0} {
		if got := countCPUs(in); got != want {
			t.Errorf("%q: got %d, want %d", in, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		f.Fatal("no recorded facts", err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		facts, err := Parse(b)
		if err != nil {
			return
		}
		out, err := json.Marshal(facts)
		if err != nil {
			t.Fatal(err)
		}
		var back Facts
		if err := json.Unmarshal(out, &back); err != nil || !reflect.DeepEqual(back, facts) {
			t.Errorf("JSON changes the facts: %v\n%s", err, out)
		}
		if strings.ContainsFunc(allText(facts), func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("unprintable text in %q", out)
		}
	})
}

// allText joins what a caller may print.
func allText(f Facts) string {
	s := []string{f.Product, f.Serial, f.UUID, f.Architecture, f.Kernel, f.Firmware, f.BootID, f.MachineID, f.Hostname, f.NixOSVersion}
	var volume func(v Volume)
	volume = func(v Volume) {
		s = append(s, v.Device, v.Kind, v.FileSystem, v.Label, v.PartLabel, v.UUID, v.PartUUID)
		s = append(s, v.Mounts...)
		for _, h := range v.Holders {
			volume(h)
		}
	}
	for _, d := range f.Disks {
		s = append(append(s, d.Path, d.Model, d.Serial, d.WWN, d.Transport, d.Table), d.Links...)
		volume(d.Volume)
		for _, p := range d.Partitions {
			volume(p)
		}
	}
	for _, n := range f.NICs {
		s = append(append(s, n.Name, n.MAC), n.Addresses...)
	}
	return strings.Join(s, "")
}

// TestGather compares what the script says of this machine with other sources.
func TestGather(t *testing.T) {
	f, err := Gather(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	host, _ := os.Hostname()
	if f.BootID != strings.TrimSpace(string(boot)) || f.Hostname != host || f.Memory < 64<<20 || f.CPUs < 1 || f.StoreAvailable <= 0 {
		t.Errorf("got %+v", f)
	}
	if d := time.Since(f.Clock); d < -time.Minute || d > time.Minute {
		t.Errorf("the clock is %v away", d)
	}
}

// TestGatherLoop describes a loop device like a disk and compares it with what
// was made on it.
func TestGatherLoop(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root for a loop device")
	}
	for _, tool := range []string{"losetup", "mkfs.ext4", "lsblk"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s", tool)
		}
	}
	out, err := exec.Command("sh", "-c", `truncate -s 32M "$1/disk" && mkfs.ext4 -q -L 'my data' -U 3e6be9de-8139-11d1-9106-a43f08d823a6 "$1/disk" && losetup --find --show "$1/disk"`, "sh", t.TempDir()).Output()
	if err != nil {
		t.Fatal(err)
	}
	path := strings.TrimSpace(string(out))
	t.Cleanup(func() { exec.Command("losetup", "-d", path).Run() })
	raw, err := run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f, err := parse(raw, func(n node) bool { return n.Type == "loop" })
	if err != nil {
		t.Fatal(err)
	}
	d := find(t, f.Disks, path)
	if d.Size != 32<<20 || d.SectorSize != 512 || d.Sequence == 0 || d.BootMedium || d.ReadOnly {
		t.Errorf("got %+v", d)
	}
	if d.FileSystem != "ext4" || d.Label != "my data" || d.UUID != "3e6be9de-8139-11d1-9106-a43f08d823a6" || d.Kind != "loop" {
		t.Errorf("got %+v", d.Volume)
	}
}
