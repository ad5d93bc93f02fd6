//go:build linux

package lab

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nixctl/nixctl/controller/vm"
)

// bootLimit is for a guest on a machine that is busy with other tests.
const bootLimit = 5 * time.Minute

func newLab(t *testing.T) *Lab {
	t.Helper()
	if testing.Short() {
		t.Skip("boots machines; not with -short")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root for network namespaces and the guest image")
	}
	l, err := New(t.Context(), Config{Progress: func(s string) { t.Log(s) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func start(t *testing.T, l *Lab, s Spec) *Guest {
	t.Helper()
	g, err := l.Start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.CheckSerial(); err != nil {
			t.Error(err)
		}
	})
	return g
}

func key(t *testing.T, file string, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// soon bounds what a booting guest is waited for.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	t.Cleanup(cancel)
	return ctx
}

// run runs a command in the guest by SSH.
func run(t *testing.T, g *Guest, command string) string {
	t.Helper()
	known, err := g.KnownHosts()
	if err != nil {
		t.Fatal(err)
	}
	out, err := g.SSH(soon(t), known, command).CombinedOutput()
	if err != nil {
		t.Errorf("guest %q: %q: %v: %s", g.Name, command, err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestGuests(t *testing.T) {
	l := newLab(t)
	web, err := l.HostKey("web")
	foreign, err2 := l.ForeignKey("stranger")
	diskless := Spec{Name: "lite", Kind: Lite, Firmware: vm.BIOS, HostKey: key(t, foreign, err2), MAC: "52:54:00:6c:ff:01"}
	full := start(t, l, Spec{Name: "full", HostKey: key(t, web, err), Addr: l.LAN.Host(10), Disks: []Disk{
		{Size: 64 << 20, Disk: vm.Disk{Bus: "nvme", Serial: "NVME1"}},
		{Size: 64 << 20, Disk: vm.Disk{Bus: "sata", Serial: "SATA1", WWN: 0x5000c50015ea71aa, Model: "LAB DISK"}},
	}})
	lite := start(t, l, diskless)
	micro := start(t, l, Spec{Name: "micro", Kind: Micro, HostKey: web})
	for _, g := range []*Guest{micro, lite, full} {
		began := time.Now()
		if err := g.WaitSSH(soon(t)); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s answers %.1f s after the one before", g.Name, time.Since(began).Seconds())
	}

	if got := run(t, full, "hostname; ls /sys/firmware/efi >/dev/null && ps -o comm= -p 1; ls /dev/disk/by-id"); !strings.HasPrefix(got, "full\nsystemd\n") ||
		!strings.Contains(got, "ata-LAB_DISK_SATA1") || !strings.Contains(got, "NVME1") || !strings.Contains(got, "wwn-0x5000c50015ea71aa") {
		t.Errorf("full guest says %q", got)
	}
	if got := run(t, lite, "hostname; test -e /sys/firmware/efi || ps -o comm= -p 1"); got != "lite\nbusybox" && got != "lite\ninit" {
		t.Errorf("lite guest says %q", got)
	}
	known, err := full.KnownHosts()
	if err != nil {
		t.Fatal(err)
	}
	b, _ := os.ReadFile(known)
	addr, _ := lite.Address()
	wrong := filepath.Join(t.TempDir(), "known_hosts")
	os.WriteFile(wrong, bytes.Replace(b, []byte(full.Addr.String()), []byte(addr.String()), 1), 0o600)
	if out, err := lite.SSH(soon(t), wrong, "true").CombinedOutput(); err == nil || !strings.Contains(string(out), "HOST IDENTIFICATION HAS CHANGED") {
		t.Errorf("login to a machine with a foreign key: %v: %s", err, out)
	}

	saved := filepath.Join(l.LAN.Dir(), "saved")
	if err := errors.Join(lite.Save(soon(t), saved), lite.Stop(soon(t))); err != nil {
		t.Fatal(err)
	}
	diskless.Name, diskless.Saved = "restored", saved
	lite = start(t, l, diskless)
	if err := lite.WaitSSH(soon(t)); err != nil {
		t.Fatal(err)
	}
	if got := run(t, lite, "hostname"); got != "lite" {
		t.Errorf("host name %q after the restore, want the saved guest's", got)
	}

	if out, err := l.Nixctl(soon(t), "keys", "list").CombinedOutput(); err != nil || !strings.Contains(string(out), "web") || strings.Contains(string(out), "stranger") {
		t.Errorf("nixctl keys list: %v: %s; want web and not stranger", err, out)
	}

	run(t, lite, "sync; (sleep 0.3; reboot -f) >/dev/null 2>&1 &")
	select {
	case <-lite.FromDisk():
	case <-soon(t).Done():
		t.Fatal("the guest did not go on from its disk")
	}
	if err := lite.Stop(soon(t)); err != nil {
		t.Error(err)
	}
	run(t, full, "sync; (sleep 0.3; poweroff -f) >/dev/null 2>&1 &")
	if exit, err := full.WaitOff(soon(t)); err != nil || exit.Reason != "guest-shutdown" {
		t.Errorf("after poweroff: %+v, %v", exit, err)
	}
	if err := full.WaitSSH(soon(t)); err == nil || !strings.Contains(err.Error(), "guest-shutdown") {
		t.Errorf("wait for a guest that is off: %v", err)
	}
}

func TestSpecDefaults(t *testing.T) {
	for _, tt := range []struct{ give, want Spec }{
		{Spec{}, Spec{Kind: Systemd, Firmware: vm.UEFI, Memory: 1536, InstalledMemory: 512, CPUs: 1, MAC: "52:54:00:6c:01:02", Serial: "LAB-"}},
		{Spec{Kind: Lite, Memory: 900}, Spec{Kind: Lite, Firmware: vm.UEFI, Memory: 900, InstalledMemory: 512, CPUs: 1, MAC: "52:54:00:6c:01:02", Serial: "LAB-"}},
		{Spec{Kind: Micro, CPUs: 2, MAC: "a", Serial: "b"}, Spec{Kind: Micro, Firmware: vm.BIOS, Memory: 128, InstalledMemory: 512, CPUs: 2, MAC: "a", Serial: "b"}},
	} {
		got := tt.give
		got.defaults(0x0102)
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%+v becomes %+v, want %+v", tt.give, got, tt.want)
		}
	}
}

func TestKeys(t *testing.T) {
	file := filepath.Join(t.TempDir(), "hosts", "web", "key")
	made, err := keyAt(file, "web")
	if err != nil {
		t.Fatal(err)
	}
	again, err := keyAt(file, "web")
	if err != nil || again != made {
		t.Errorf("second call: %q, %v", again, err)
	}
	out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-y", "-f", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	public, _ := os.ReadFile(file + ".pub")
	if string(out) != string(public) {
		t.Errorf("public key %q, want what ssh-keygen derives: %q", public, out)
	}
	if fi, err := os.Stat(file); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("private key has mode %v, %v", fi.Mode(), err)
	}
}
