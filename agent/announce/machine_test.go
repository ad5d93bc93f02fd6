//go:build linux

package announce

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nixctl/nixctl/discovery/beacon"
)

// The public key of the bytes 0 to 31; its fingerprint is from ssh-keygen -l.
const publicKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f installer\n"

// root writes files below a new folder.
func root(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestClaim(t *testing.T) {
	arch, err := architecture()
	if err != nil || !strings.HasSuffix(arch, "-linux") {
		t.Fatalf("architecture = %q, %v", arch, err)
	}
	dir := root(t, map[string]string{
		"key.pub":                         publicKey,
		"nixctl/hostname":                 "web1\n",
		"proc/sys/kernel/hostname":        "nixos\n",
		"proc/sys/kernel/random/boot_id":  "3c0e3c9f-1d0d-4a3e-9a5e-0b8c1b0f7a11\n",
		"sys/firmware/efi/runtime":        "",
		"sys/class/dmi/id/product_serial": " ABC\x00\x1b 123 \n",
	})
	m := Machine{HostKey: filepath.Join(dir, "key.pub"), Version: "1.2.3", Root: dir}
	want := beacon.Claim{
		Version: "1.2.3", Name: "web1", Fingerprint: "SHA256:ZkAslGjFiUHdGf/WUL8rQvkib4PTvQatUV0OUQSncCA", Architecture: arch,
		// The first 16 digits of: printf %s BOOTID MAC | sha256sum
		Firmware: "uefi", MAC: mac.String(), ID: "dbcf12796ae24636", Serial: "ABC 123",
	}
	got, err := m.Claim(mac)
	if err != nil || got != want {
		t.Errorf("Claim = %+v, %v; want %+v", got, err, want)
	}
	if again, err := beacon.Parse(got.TXT()); err != nil || again != got {
		t.Errorf("Parse(TXT()) = %+v, %v; want %+v", again, err, got)
	}
	other, err := m.Claim(net.HardwareAddr{0x52, 0x54, 0, 0x12, 0x34, 0x57})
	if err != nil || other.ID == got.ID {
		t.Errorf("two cards have the ID %q, %v", other.ID, err)
	}
}

func TestName(t *testing.T) {
	tests := []struct {
		name  string
		flag  string
		files map[string]string
		want  string
	}{
		{"flag", "web9", map[string]string{"nixctl/hostname": "web1", "proc/sys/kernel/hostname": "nixos"}, "web9"},
		{"bundle", "", map[string]string{"nixctl/hostname": "web1\n", "proc/sys/kernel/hostname": "nixos"}, "web1"},
		{"kernel", "", map[string]string{"nixctl/hostname": "\n", "proc/sys/kernel/hostname": "nixos\n"}, "nixos"},
		{"none", "", nil, ""},
		{"long", strings.Repeat("ü", 90), nil, strings.Repeat("ü", 50)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := (Machine{Name: tt.flag, Root: root(t, tt.files)}).name(); got != tt.want {
				t.Errorf("name = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestFirmware(t *testing.T) {
	if got := (Machine{Root: root(t, nil)}).firmware(); got != "bios" {
		t.Errorf("firmware without sys/firmware/efi is %q, want bios", got)
	}
}

func TestNoHostKey(t *testing.T) {
	dir := root(t, map[string]string{"empty.pub": "", "noise.pub": "ssh-ed25519 ????\n"})
	if _, err := (Machine{HostKey: filepath.Join(dir, "none.pub")}).Claim(mac); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a key: %v, want %v", err, fs.ErrNotExist)
	}
	for _, name := range []string{"empty.pub", "noise.pub"} {
		if c, err := (Machine{HostKey: filepath.Join(dir, name)}).Claim(mac); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("with %s: %+v, %v; want an error that names it", name, c, err)
		}
	}
}
