package vm

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// defaultCPU is the CPU model under TCG. Models with cmpxchg16b make Linux
// 6.12 die of random double faults right after that instruction (measured
// with QEMU 7.2: "max" 4 of 7 runs, the default qemu64 3 of 3); Nehalem
// without it passed them all and is 15 to 40 % cheaper than "max".
const defaultCPU = "Nehalem,-cx16"

// properties is a QEMU option in its JSON form, which needs no escaping.
type properties map[string]any

func (p properties) String() string {
	b, err := json.Marshal(p)
	if err != nil { // maps of strings, numbers and booleans always marshal
		panic(err)
	}
	return string(b)
}

// opt escapes a value for QEMU's comma separated options.
func opt(value string) string { return strings.ReplaceAll(value, ",", ",,") }

// args returns QEMU's arguments. It expects the machine's files in place and
// its QMP and serial listeners as file descriptors 3 and 4.
func (c *Config) args() ([]string, error) {
	accel, cpu := c.Accel, "host"
	if accel == "tcg" || strings.HasPrefix(accel, "tcg,") {
		cpu = defaultCPU
	}
	machine := "q35"
	if c.Firmware == UEFI {
		machine += ",pflash0=code,pflash1=vars"
	}
	a := []string{
		"-name", opt(c.Name), "-nodefaults", "-no-user-config", "-display", "none",
		"-machine", machine, "-accel", accel, "-cpu", cpu,
		"-smp", strconv.Itoa(c.CPUs), "-m", strconv.Itoa(c.Memory),
		"-chardev", "socket,id=qmp,fd=3,server=on,wait=off", "-mon", "chardev=qmp,mode=control",
		// A socket so that input can be typed, a log so that no output is lost
		// while nobody listens.
		"-chardev", "socket,id=serial,fd=4,server=on,wait=off,logappend=on,logfile=" + opt(c.serialLog()),
		"-serial", "chardev:serial",
		"-device", "virtio-rng-pci",
	}
	if c.NoReboot {
		a = append(a, "-no-reboot")
	}
	if c.Screen {
		a = append(a, "-device", "VGA")
	}
	if c.Kernel != "" {
		a = append(a, "-kernel", c.Kernel, "-initrd", c.Initrd, "-append", c.Cmdline)
	}
	if c.Incoming != "" {
		a = append(a, "-incoming", "fd:5")
	}
	if c.Firmware == UEFI {
		code, _, err := findOVMF()
		if err != nil {
			return nil, err
		}
		a = append(a, "-blockdev", flash("code", code, true), "-blockdev", flash("vars", c.vars(), false))
	}
	if c.Serial != "" {
		a = append(a, "-smbios", "type=1,serial="+opt(c.Serial))
	}
	for _, f := range c.credentialFiles() {
		a = append(a, "-smbios", "type=11,path="+opt(f))
	}
	for i, n := range c.NICs {
		a = append(a, n.args(i)...)
	}
	disks, err := c.diskArgs()
	return append(a, disks...), err
}

func flash(node, file string, readOnly bool) string {
	return properties{"driver": "raw", "node-name": node, "read-only": readOnly,
		"file": properties{"driver": "file", "filename": file}}.String()
}

func (n NIC) args(i int) []string {
	backend := "tap,script=no,downscript=no,ifname=" + opt(n.Tap)
	if n.Tap == "" {
		backend = "user"
		for _, f := range n.Forward {
			backend += ",hostfwd=" + opt(f)
		}
	}
	net := fmt.Sprintf("net%d", i)
	// An empty romfile: network boot would cost seconds before the disk's turn.
	device := properties{"driver": "virtio-net-pci", "id": fmt.Sprintf("nic%d", i), "netdev": net, "romfile": ""}
	if n.MAC != "" {
		device["mac"] = n.MAC
	}
	return []string{"-netdev", backend + ",id=" + net, "-device", device.String()}
}

func (c *Config) diskArgs() ([]string, error) {
	var a []string
	used := make(map[string]int) // disks so far, by bus
	for i, d := range c.Disks {
		id := fmt.Sprintf("disk%d", i)
		device, err := d.device(id, used[d.Bus])
		if err != nil {
			return nil, fmt.Errorf("%s (%q): %w", id, d.File, err)
		}
		if used[d.Bus] == 0 {
			a = append(a, controllers[d.Bus]...)
		}
		used[d.Bus]++
		a = append(a, "-blockdev", d.blockdev(id), "-device", device.String())
	}
	return a, nil
}

// controllers are the devices that a bus needs once. The q35 chipset has SATA
// built in; virtio and NVMe disks are their own controllers.
var controllers = map[string][]string{
	"scsi": {"-device", "virtio-scsi-pci,id=scsi"},
	"usb":  {"-device", "qemu-xhci,id=usb"},
}

// blockNode names a disk's contents, as opposed to the device that shows them.
func blockNode(id string) string { return id + "-data" }

func (d Disk) blockdev(id string) string {
	format := d.Format
	if format == "" {
		format = "raw"
	}
	return properties{"driver": format, "node-name": blockNode(id), "read-only": d.ReadOnly, "discard": "unmap",
		"cache": properties{"no-flush": d.NoFlush},
		"file":  properties{"driver": "file", "filename": d.File, "discard": "unmap"}}.String()
}

// device is the n-th one of its bus.
func (d Disk) device(id string, n int) (properties, error) {
	p := properties{"id": id, "drive": blockNode(id)}
	if d.BootIndex > 0 {
		p["bootindex"] = d.BootIndex
	}
	if d.Serial != "" {
		p["serial"] = d.Serial
	}
	model, wwn := "", "" // the properties that carry them, if any
	switch d.Bus {
	case "", "virtio":
		p["driver"] = "virtio-blk-pci"
	case "scsi":
		p["driver"], p["bus"], model, wwn = "scsi-hd", "scsi.0", "product", "wwn"
		if d.Serial != "" {
			p["device_id"] = d.Serial // what by-id links show
		}
	case "sata":
		p["driver"], model, wwn = "ide-hd", "model", "wwn"
		p["bus"] = fmt.Sprintf("ide.%d", n) // one port a disk, six in all
		if d.ReadOnly {
			p["driver"] = "ide-cd"
		}
	case "nvme":
		return d.nvme(p)
	case "usb":
		p["driver"], p["bus"] = "usb-storage", "usb.0"
	default:
		return nil, fmt.Errorf("no bus %q: use virtio, scsi, sata, nvme or usb", d.Bus)
	}
	if d.Model != "" {
		if model == "" {
			return nil, fmt.Errorf("QEMU gives a %s disk no model name", p["driver"])
		}
		p[model] = d.Model
	}
	if d.WWN != 0 {
		if wwn == "" {
			return nil, fmt.Errorf("QEMU gives a %s disk no WWN", p["driver"])
		}
		p[wwn] = d.WWN
	}
	return p, nil
}

// nvme is a controller with the disk as its only namespace.
func (d Disk) nvme(p properties) (properties, error) {
	switch {
	case d.Serial == "":
		return nil, errors.New("an nvme disk needs a serial number")
	case d.Model != "" || d.WWN != 0:
		return nil, errors.New("QEMU gives an nvme disk neither model name nor WWN")
	}
	p["driver"] = "nvme"
	return p, nil
}

func (c *Config) serialLog() string { return filepath.Join(c.Dir, "serial.log") }
func (c *Config) vars() string      { return filepath.Join(c.Dir, "vars.fd") }

// credentialFiles are the files that writeCredentials writes, in a fixed order.
func (c *Config) credentialFiles() []string {
	var files []string
	for i := range len(c.Credentials) {
		files = append(files, filepath.Join(c.Dir, fmt.Sprintf("credential%d", i)))
	}
	return files
}

func (c *Config) writeCredentials() error {
	for i, name := range slices.Sorted(maps.Keys(c.Credentials)) {
		if name == "" || strings.ContainsAny(name, "=:/\x00") {
			return fmt.Errorf("credential name %q has a character that SMBIOS or systemd gives a meaning", name)
		}
		text := "io.systemd.credential.binary:" + name + "=" + base64.StdEncoding.EncodeToString(c.Credentials[name])
		if err := writeSecret(c.credentialFiles()[i], []byte(text)); err != nil {
			return err
		}
	}
	return nil
}

// writeSecret replaces a file; it is private before the first byte is in it.
func writeSecret(file string, data []byte) error {
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// makeVars gives a UEFI machine its variable store; one that exists is kept,
// because it holds the boot entries of what was installed.
func (c *Config) makeVars() error {
	if _, err := os.Stat(c.vars()); c.Firmware != UEFI || err == nil {
		return nil
	}
	_, template, err := findOVMF()
	if err != nil {
		return err
	}
	in, err := os.Open(template)
	if err != nil {
		return err
	}
	defer in.Close()
	data, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	return os.WriteFile(c.vars(), data, 0o600)
}
