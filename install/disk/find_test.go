package disk

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestFindScript gives the guard trees that look like /sys. The names are those of
// real block devices, since it ends with a look at the device.
func TestFindScript(t *testing.T) {
	for _, dev := range []string{"/dev/loop0", "/dev/loop1"} {
		if _, err := os.Stat(dev); err != nil {
			t.Skipf("needs %s", dev)
		}
	}
	const size = 1 << 30
	sectors := strconv.Itoa(size / 512)
	const hostile = `S'$(touch /tmp/nixctl-pwned)"; * x`
	tests := []struct {
		name  string
		files map[string]string
		pin   Pin
		want  string // the device, or the refusal
	}{
		{"moved", map[string]string{"loop0/size": sectors, "loop0/serial": "other", "loop1/size": sectors, "loop1/serial": "S1\n"},
			Pin{Path: "/dev/loop0", Serial: "S1"}, "/dev/loop1"},
		{"nvme", map[string]string{"loop1/size": sectors, "loop1/device/serial": "S1       \n", "loop1/wwid": "eui.1"},
			Pin{Serial: "S1", WWN: "eui.1"}, "/dev/loop1"},
		{"nvme path is hidden", map[string]string{"loop0/size": sectors, "loop0/device/serial": "S1", "loop0/hidden": "1", "loop1/size": sectors, "loop1/device/serial": "S1"},
			Pin{Serial: "S1"}, "/dev/loop1"},
		{"sata", map[string]string{"loop1/size": sectors, "loop1/device/vpd_pg80": "\x00\x80\x00\x24  S1  ", "loop1/device/wwid": "naa.5000c500"},
			Pin{Serial: "S1", WWN: "0x5000c500"}, "/dev/loop1"},
		{"other wwn", map[string]string{"loop1/size": sectors, "loop1/serial": "S1", "loop1/wwid": "naa.2"},
			Pin{Serial: "S1", WWN: "0x1"}, "there is no disk with serial S1"},
		{"other size", map[string]string{"loop1/size": "12", "loop1/serial": "S1"}, Pin{Serial: "S1"}, "there is no disk"},
		{"part of a serial", map[string]string{"loop1/size": sectors, "loop1/serial": "S12", "loop1/device/vpd_pg80": "\x00\x80\x00\x03XS1"},
			Pin{Serial: "S1"}, "there is no disk"},
		{"two of them", map[string]string{"loop0/size": sectors, "loop0/serial": "S1", "loop1/size": sectors, "loop1/serial": "S1"},
			Pin{Serial: "S1"}, "loop0 and loop1 are both disk with serial S1"},
		{"hostile serial", map[string]string{"loop1/size": sectors, "loop1/serial": hostile}, Pin{Serial: hostile}, "/dev/loop1"},
		{"glob as serial", map[string]string{"loop1/size": sectors, "loop1/serial": "S1"}, Pin{Serial: "*"}, "there is no disk"},
		{"weak", map[string]string{"loop1/size": sectors, "loop1/diskseq": "7"}, Pin{Path: "/dev/loop1", Sequence: 7}, "/dev/loop1"},
		{"weak and changed", map[string]string{"loop1/size": sectors, "loop1/diskseq": "8"}, Pin{Path: "/dev/loop1", Sequence: 7}, "was changed for another"},
	}
	for _, tt := range tests {
		for _, shell := range [][]string{{"dash"}, {"bash", "--posix"}, {"busybox", "sh"}} {
			t.Run(tt.name+" "+shell[0], func(t *testing.T) {
				if _, err := exec.LookPath(shell[0]); err != nil {
					t.Skipf("needs %s", shell[0])
				}
				sys := t.TempDir()
				for name, text := range tt.files {
					file := filepath.Join(sys, "block", name)
					if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				tt.pin.Size = size
				cmd := exec.Command(shell[0], append(shell[1:], "-s")...)
				cmd.Stdin = strings.NewReader(tt.pin.find(sys) + "echo \"found $device\"\n")
				out, _ := cmd.CombinedOutput()
				want := tt.want
				code := RefusedStatus
				if strings.HasPrefix(want, "/dev/") {
					want, code = "found "+want+"\n", 0
				}
				if got := cmd.ProcessState.ExitCode(); got != code || !strings.Contains(string(out), want) {
					t.Errorf("exit status %d, want %d and %q:\n%s", got, code, want, out)
				}
			})
		}
	}
	if _, err := os.Stat("/tmp/nixctl-pwned"); err == nil {
		t.Error("a serial was run as a command")
	}
}

// TestGolden shows in review what the scripts do. Run with -update to accept.
func TestGolden(t *testing.T) {
	pin := Pin{Path: "/dev/disk/by-id/nvme-Disk_S1", Serial: "S1", WWN: "eui.1", Size: 64 << 30}
	bios := Layout{Firmware: BIOS, Swap: 4 << 30, ID: "run-1"}
	full := Layout{Firmware: UEFI, FileSystem: Btrfs, Swap: 4 << 30, Encrypt: true, ID: "run-1"}
	const key = "/run/nixctl/run-1/passphrase"
	for name, script := range map[string]string{
		"prepare": PrepareAndMount(pin, full, key, false), "mount": Mount(pin, full, key), "unmount": Unmount(pin, full),
		"prepare-bios": bios.partitionScript(pin) + bios.formatScript(pin),
	} {
		file := filepath.Join("testdata", name+".golden")
		if *update {
			if err := os.WriteFile(file, []byte(script), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if want := read(t, file); script != want {
			t.Errorf("%s differs; see go test -update and git diff", file)
		}
		check := exec.Command("sh", "-n")
		check.Stdin = bytes.NewBufferString(script)
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}
