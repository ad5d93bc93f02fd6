package vm

import (
	"bytes"
	"context"
	"errors"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// echo is a boot sector that writes "boot" to the serial port and from then on
// echoes what is typed there, but for two keys.
var echo = append([]byte{
	0x31, 0xc0, 0x8e, 0xd8, //       xor ax,ax; mov ds,ax
	0xbe, 0x49, 0x7c, 0xfc, //       mov si,text; cld
	0xac, 0x84, 0xc0, 0x74, 0x05, // next: lodsb; test al,al; jz echo
	0xe8, 0x1b, 0x00, 0xeb, 0xf6, // call put; jmp next
	0xba, 0xfd, 0x03, 0xec, //       echo: mov dx,0x3fd; in al,dx
	0xa8, 0x01, 0x74, 0xf8, //       test al,1; jz echo
	0xba, 0xf8, 0x03, 0xec, //       mov dx,0x3f8; in al,dx
	0x3c, 0x12, 0x74, 0x18, //       cmp al,resetKey; je reset
	0x3c, 0x0f, 0x74, 0x1a, //       cmp al,offKey; je off
	0xe8, 0x02, 0x00, 0xeb, 0xe7, // call put; jmp echo
	0x50, 0xba, 0xfd, 0x03, 0xec, // put: push ax; mov dx,0x3fd; wait: in al,dx
	0xa8, 0x20, 0x74, 0xfb, //       test al,0x20; jz wait
	0x58, 0xba, 0xf8, 0x03, //       pop ax; mov dx,0x3f8
	0xee, 0xc3, //                   out dx,al; ret
	0xb0, 0xfe, 0xe6, 0x64, //       reset: mov al,0xfe; out 0x64,al
	0xeb, 0xfe, //                   jmp $
	0xba, 0x04, 0x06, //             off: mov dx,0x604 (ACPI PM1a control)
	0xb8, 0x00, 0x20, 0xef, //       mov ax,0x2000; out dx,ax
	0xeb, 0xfe, //                   jmp $
}, "boot\r\n\x00"...)

const (
	resetKey = "\x12" // Ctrl-R
	offKey   = "\x0f" // Ctrl-O
)

// machine returns the Config of a machine that boots echo.
func machine(t *testing.T) Config {
	t.Helper()
	if _, err := exec.LookPath(qemu); err != nil {
		t.Skip("needs qemu-system-x86_64 (package qemu-system-x86)")
	}
	disk := filepath.Join(t.TempDir(), "disk, with comma") // QEMU's own syntax needs commas doubled
	sector := make([]byte, 1<<20)
	copy(sector, echo)
	sector[510], sector[511] = 0x55, 0xaa
	if err := os.WriteFile(disk, sector, 0o600); err != nil {
		t.Fatal(err)
	}
	return Config{Dir: filepath.Join(t.TempDir(), "run,1"), Firmware: BIOS, Memory: 32, Disks: []Disk{{File: disk, NoFlush: true}}}
}

func start(t *testing.T, c Config) *Machine {
	t.Helper()
	m, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Kill(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return m
}

// wait is for what must happen soon.
func wait(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: did not happen within a minute", what)
		}
	}
}

func logged(m *Machine, text string) func() bool {
	return func() bool {
		b, _ := os.ReadFile(m.SerialLog())
		return strings.HasSuffix(string(b), text)
	}
}

func reason(t *testing.T, m *Machine) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	exit, err := m.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return exit.Reason
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestConsoleAndReset(t *testing.T) {
	c := machine(t)
	c.Credentials = map[string][]byte{"first": []byte("secret"), "second": nil}
	m := start(t, c)
	wait(t, "boot", logged(m, "boot\r\n"))
	must(t, m.SendSerial(t.Context(), "one"))
	wait(t, "echo", logged(m, "boot\r\none"))
	must(t, m.Reset(t.Context()))
	wait(t, "boot after reset", logged(m, "oneboot\r\n"))
	must(t, m.SendSerial(t.Context(), resetKey))
	wait(t, "boot after the guest's reset", logged(m, "boot\r\nboot\r\n"))
	must(t, m.SendSerial(t.Context(), offKey))
	if got := reason(t, m); got != "guest-shutdown" {
		t.Errorf("exit reason %q, want guest-shutdown", got)
	}
	if b, err := os.ReadFile(filepath.Join(c.Dir, "credential0")); string(b) != "io.systemd.credential.binary:first=c2VjcmV0" {
		t.Errorf("credential file %q, %v", b, err)
	}
}

func TestNoReboot(t *testing.T) {
	c := machine(t)
	c.NoReboot = true
	m := start(t, c)
	wait(t, "boot", logged(m, "boot\r\n"))
	must(t, m.SendSerial(t.Context(), resetKey))
	if got := reason(t, m); got != "guest-reset" {
		t.Errorf("exit reason %q, want guest-reset", got)
	}
	if err := m.Pause(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("pause after the end: %v, want ErrNotRunning", err)
	}
}

func TestKill(t *testing.T) {
	m := start(t, machine(t))
	must(t, m.Kill(t.Context()))
	exit, err := m.Wait(t.Context())
	if err != nil || exit.Reason != "" || exit.Err == nil {
		t.Errorf("after Kill: %+v, %v; want no reason and the signal as error", exit, err)
	}
}

func TestQuit(t *testing.T) {
	m := start(t, machine(t))
	must(t, m.Quit(t.Context()))
	if got := reason(t, m); got != "host-qmp-quit" {
		t.Errorf("exit reason %q, want host-qmp-quit", got)
	}
	if m.exit.Err != nil {
		t.Errorf("exit error %v after quit", m.exit.Err)
	}
}

// TestDevices starts a machine with everything a Config can ask for.
func TestDevices(t *testing.T) {
	c := machine(t)
	for _, bus := range []string{"scsi", "sata", "nvme", "usb"} {
		d := Disk{File: filepath.Join(t.TempDir(), bus), Bus: bus, Serial: bus + "-serial"}
		must(t, os.WriteFile(d.File, make([]byte, 1<<20), 0o600))
		if bus == "scsi" || bus == "sata" {
			d.Model, d.WWN = "Model", 0x5000c50015ea71aa
		}
		c.Disks = append(c.Disks, d)
		if bus == "scsi" || bus == "sata" {
			c.Disks = append(c.Disks, Disk{File: d.File + "-ro", Bus: bus, ReadOnly: true})
			must(t, os.WriteFile(d.File+"-ro", make([]byte, 1<<20), 0o600))
		}
	}
	c.Disks[0].BootIndex = 1
	c.NICs = []NIC{{MAC: "52:54:00:00:00:01", Forward: []string{"tcp:127.0.0.1:0-:22"}}}
	c.Screen = true
	events := make(chan Event, 100)
	c.OnEvent = func(e Event) { events <- e }
	m := start(t, c)

	must(t, m.SetLink(t.Context(), 0, false))
	must(t, m.SetLink(t.Context(), 0, true))
	if err := m.SetLink(t.Context(), 7, true); err == nil || !strings.Contains(err.Error(), "nic7") {
		t.Errorf("link of a card that is not there: %v", err)
	}
	must(t, m.Throttle(t.Context(), 0, 1<<20))
	must(t, m.Pause(t.Context()))
	next(t, events, "STOP")
	must(t, m.Resume(t.Context()))
	next(t, events, "RESUME")
	must(t, m.RemoveDevice(t.Context(), "disk6"))
	if data := next(t, events, "DEVICE_DELETED"); !strings.Contains(data, "disk6") {
		t.Errorf("removed %s, want disk6", data)
	}
	must(t, m.Powerdown(t.Context()))
	next(t, events, "POWERDOWN")

	shot := filepath.Join(t.TempDir(), "screen.png")
	must(t, m.Screendump(t.Context(), shot))
	b, err := os.ReadFile(shot)
	must(t, err)
	if _, err := png.Decode(bytes.NewReader(b)); err != nil {
		t.Errorf("screen dump: %v", err)
	}
}

// next returns the data of the next event of that name.
func next(t *testing.T, events <-chan Event, name string) string {
	t.Helper()
	for {
		select {
		case e := <-events:
			if e.Name == name {
				return string(e.Data)
			}
		case <-time.After(time.Minute):
			t.Fatalf("no event %s", name)
		}
	}
}

func TestUEFIKeepsVariables(t *testing.T) {
	if _, _, err := findOVMF(); err != nil {
		t.Skip(err)
	}
	c := machine(t)
	c.Firmware, c.Memory = UEFI, 128
	for range 2 { // the second start finds the first one's variables
		m := start(t, c)
		wait(t, "firmware writes its variables", func() bool {
			_, template, _ := findOVMF()
			was, _ := os.ReadFile(template)
			is, _ := os.ReadFile(c.vars())
			return len(is) > 0 && !bytes.Equal(was, is)
		})
		must(t, m.Kill(t.Context()))
	}
}

func TestSaveAndGoOn(t *testing.T) {
	c := machine(t)
	m := start(t, c)
	wait(t, "boot", logged(m, "boot\r\n"))
	file := filepath.Join(t.TempDir(), "ram")
	must(t, m.Save(t.Context(), file))
	must(t, m.Kill(t.Context()))
	must(t, os.Remove(m.SerialLog()))

	c.Incoming = file
	m = start(t, c)
	must(t, m.SendSerial(t.Context(), "two"))
	wait(t, "echo without a boot", logged(m, "two"))
	if b, _ := os.ReadFile(m.SerialLog()); string(b) != "two" {
		t.Errorf("serial log %q, want only what was typed after the restore", b)
	}
	if fi, err := os.Stat(file); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("saved memory has mode %v, %v; want 0600", fi.Mode(), err)
	}
}

func TestOpen(t *testing.T) {
	c := machine(t)
	c.Detach = true
	first := start(t, c)
	if _, err := Start(t.Context(), c); err == nil || !strings.Contains(err.Error(), "runs in") {
		t.Errorf("second start in one folder: %v", err)
	}
	busy, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := Open(busy, c.Dir); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("open of an attached machine: %v, want a deadline error", err)
	}
	first.Detach()
	m, err := Open(t.Context(), c.Dir)
	must(t, err)
	if m.PID() != first.PID() {
		t.Errorf("attached to process %d, want %d", m.PID(), first.PID())
	}
	must(t, m.Kill(t.Context()))
	if _, err := Open(t.Context(), c.Dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("open after the end: %v, want ErrNotRunning", err)
	}
}

func TestOpenRecycledPID(t *testing.T) {
	for _, pid := range []string{"", "1", "-5", "x", "999999999", strconv.Itoa(os.Getpid())} {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, "pid"), []byte(pid), 0o600))
		if _, err := Open(t.Context(), dir); !errors.Is(err, ErrNotRunning) {
			t.Errorf("pid file %q: %v, want ErrNotRunning", pid, err)
		}
	}
}

func TestStartErrors(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"disk is missing", func(c *Config) { c.Disks[0].File = "/nowhere/disk" }, "/nowhere/disk"},
		{"no such bus", func(c *Config) { c.Disks[0].Bus = "ide" }, `no bus "ide"`},
		{"nvme without serial", func(c *Config) { c.Disks[0].Bus = "nvme" }, "serial number"},
		{"nvme with wwn", func(c *Config) { c.Disks[0].Bus, c.Disks[0].Serial, c.Disks[0].WWN = "nvme", "s", 1 }, "WWN"},
		{"usb with wwn", func(c *Config) { c.Disks[0].Bus, c.Disks[0].WWN = "usb", 1 }, "WWN"},
		{"virtio with model", func(c *Config) { c.Disks[0].Model = "m" }, "model"},
		{"no such firmware", func(c *Config) { c.Firmware = "openfirmware" }, "openfirmware"},
		{"credential name", func(c *Config) { c.Credentials = map[string][]byte{"a=b": nil} }, `"a=b"`},
		{"no saved machine", func(c *Config) { c.Incoming = "/nowhere/ram" }, "/nowhere/ram"},
		{"prefix command fails", func(c *Config) { c.Prefix = []string{"sh", "-c", "echo no namespace >&2; exit 3", "--"} }, "no namespace"},
		{"run folder too long", func(c *Config) { c.Dir = filepath.Join(c.Dir, strings.Repeat("x", 120)) }, "shorter run folder"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := machine(t)
			tt.change(&c)
			m, err := Start(t.Context(), c)
			if err == nil {
				m.Kill(t.Context())
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

// TestDiesWithParent kills a process that started a machine.
func TestDiesWithParent(t *testing.T) {
	if dir := os.Getenv("VM_TEST_PARENT"); dir != "" { // we are that process
		c := Config{Dir: dir, Firmware: BIOS, Memory: 32}
		if _, err := Start(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString("started\n")
		select {}
	}
	if !exists("/proc/self") {
		t.Skip("only Linux ends children with their parent")
	}
	dir := machine(t).Dir
	parent := exec.Command(os.Args[0], "-test.run=^TestDiesWithParent$")
	parent.Env = append(os.Environ(), "VM_TEST_PARENT="+dir)
	out, err := parent.StdoutPipe()
	must(t, err)
	must(t, parent.Start())
	if _, err := out.Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	if _, err := running(dir); err != nil {
		t.Fatal(err)
	}
	must(t, parent.Process.Kill())
	parent.Wait()
	wait(t, "machine dies with its parent", func() bool { _, err := running(dir); return err != nil })
}
