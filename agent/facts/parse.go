package facts

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Bounds on what [Parse] accepts. The largest output seen, of a server with 60
// disks, is 200 KB.
const (
	maxOutput = 4 << 20
	maxText   = 256 // bytes of one value
	maxItems  = 1024
)

// ErrMalformed is returned by [Parse] for what is not the complete output of [Script].
var ErrMalformed = errors.New("malformed facts")

// Parse reads the output of [Script]. Text in it that a terminal would not print
// as it stands is replaced by question marks.
func Parse(out []byte) (Facts, error) {
	return parse(out, installable)
}

// parse is Parse with the disks that keep wants.
func parse(out []byte, keep func(node) bool) (Facts, error) {
	if len(out) > maxOutput {
		return Facts{}, fmt.Errorf("%w: more than %d bytes", ErrMalformed, maxOutput)
	}
	sections := split(out)
	if _, ok := sections["end"]; !ok {
		return Facts{}, fmt.Errorf("%w: the output ends early", ErrMalformed)
	}
	files := readFiles(sections["files"])
	f := Facts{
		Architecture:    architecture(sections.line("machine")),
		CPUs:            countCPUs(files.get("/sys/devices/system/cpu/online")),
		Kernel:          files.get("/proc/sys/kernel/osrelease"),
		Hostname:        files.get("/proc/sys/kernel/hostname"),
		BootID:          files.get("/proc/sys/kernel/random/boot_id"),
		MachineID:       files.get("/etc/machine-id"),
		Memory:          files.memory("MemTotal"),
		MemoryAvailable: files.memory("MemAvailable"),
		StoreAvailable:  available(sections["store"]),
		Firmware:        firmware(sections.line("firmware")),
		SecureBoot:      secureBoot(sections["firmware"]),
		TPM:             tpm(files.get("/sys/class/tpm/tpm0/tpm_version_major")),
		NICs:            readNICs(files, sections["addresses"]),
	}
	f.identify(files, sections)
	f.release(files)
	if n, err := strconv.ParseInt(sections.line("clock"), 10, 64); err == nil {
		f.Clock = time.Unix(n, 0).UTC()
	}
	var err error
	f.Disks, err = readDisks(sections, files, keep)
	return f, err
}

// sections are the lines between the markers of the script, by name.
type sections map[string][]string

func split(out []byte) sections {
	s := make(sections)
	name := ""
	for line := range bytes.Lines(out) {
		text := strings.TrimRight(string(line), "\r\n")
		if n, ok := strings.CutPrefix(text, "#= "); ok {
			name = n
			if s[name] == nil {
				s[name] = []string{}
			}
			continue
		}
		s[name] = append(s[name], text)
	}
	return s
}

// line returns the first line of a section.
func (s sections) line(name string) string {
	if len(s[name]) == 0 {
		return ""
	}
	return clean(s[name][0])
}

// files are the lines of small files, by path.
type files map[string][]string

func readFiles(lines []string) files {
	f := make(files)
	for _, l := range lines {
		path, text, ok := strings.Cut(l, ":")
		if ok && strings.HasPrefix(path, "/") {
			f[path] = append(f[path], text)
		}
	}
	return f
}

// get returns the first line of the file.
func (f files) get(path string) string {
	if len(f[path]) == 0 {
		return ""
	}
	return clean(f[path][0])
}

// memory returns a value of /proc/meminfo, which are in units of 1024 bytes
// (proc_meminfo(5)).
func (f files) memory(key string) int64 {
	for _, l := range f["/proc/meminfo"] {
		if v, ok := strings.CutPrefix(l, key+":"); ok {
			return kilobytes(strings.TrimSuffix(v, "kB"))
		}
	}
	return 0
}

// identify sets what the firmware says of the machine.
func (f *Facts) identify(files files, s sections) {
	const dmi = "/sys/class/dmi/id/"
	vendor, product := given(files.get(dmi+"sys_vendor")), given(files.get(dmi+"product_name"))
	if !strings.HasPrefix(product, vendor) {
		product = strings.TrimSpace(vendor + " " + product)
	}
	f.Product, f.Serial, f.UUID = product, given(files.get(dmi+"product_serial")), files.get(dmi+"product_uuid")
	if f.Product == "" {
		f.Product = s.line("model")
	}
	if f.Serial == "" {
		f.Serial = s.line("serial")
	}
}

// given returns s unless it is what board makers leave in fields they did not fill.
func given(s string) string {
	switch strings.ToLower(s) {
	case "to be filled by o.e.m.", "default string", "not specified", "none", "0", "123456789",
		"system product name", "system manufacturer", "system serial number", "o.e.m.":
		return ""
	}
	return s
}

// release sets what os-release(5) says of the running system.
func (f *Facts) release(files files) {
	fields := make(map[string]string)
	for _, l := range files["/etc/os-release"] {
		if k, v, ok := strings.Cut(l, "="); ok {
			fields[k] = clean(strings.Trim(v, `"'`))
		}
	}
	nixos := fields["ID"] == "nixos"
	f.Installer = nixos && fields["VARIANT_ID"] == "installer"
	if nixos {
		f.NixOSVersion = files.get("/run/current-system/nixos-version")
		if f.NixOSVersion == "" {
			f.NixOSVersion = fields["VERSION_ID"]
		}
	}
}

// architecture translates what uname(1) says to Nix's word.
func architecture(machine string) string {
	if machine == "" {
		return ""
	}
	if machine == "arm64" {
		machine = "aarch64"
	}
	return machine + "-linux"
}

// countCPUs counts a list such as "0-3,8" (cpuset(7), list format).
func countCPUs(list string) int {
	n := 0
	for part := range strings.SplitSeq(list, ",") {
		first, last, ranged := strings.Cut(part, "-")
		a, err := strconv.ParseUint(first, 10, 16)
		if err != nil {
			continue
		}
		b := a
		if ranged {
			if b, err = strconv.ParseUint(last, 10, 16); err != nil || b < a {
				continue
			}
		}
		n += int(b - a + 1)
	}
	return n
}

// available reads the last line of df -kP: device, size, used, available, use%, directory.
func available(lines []string) int64 {
	if len(lines) < 2 {
		return 0
	}
	fields := strings.Fields(lines[len(lines)-1])
	if len(fields) < 6 {
		return 0
	}
	return kilobytes(fields[3])
}

// kilobytes returns s units of 1024 bytes, and 0 if s is not a sensible number.
func kilobytes(s string) int64 {
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 53)
	if err != nil {
		return 0
	}
	return int64(n) << 10
}

func firmware(s string) string {
	if s == "uefi" || s == "bios" {
		return s
	}
	return ""
}

// secureBoot reads the bytes of the SecureBoot variable below the word "uefi".
func secureBoot(lines []string) bool {
	if len(lines) < 2 {
		return false
	}
	value := strings.Fields(lines[1])
	return len(value) == 5 && value[4] == "1"
}

func tpm(major string) string {
	switch major {
	case "1":
		return "1.2"
	case "2":
		return "2.0"
	}
	return ""
}

// readNICs lists the Ethernet-like cards; the loopback, tunnels and the like
// have other types than 1 (ARPHRD_ETHER, linux/if_arp.h).
func readNICs(files files, addresses []string) []NIC {
	nics := []NIC{}
	for path := range files {
		name, ok := strings.CutPrefix(path, "/sys/class/net/")
		if !ok {
			continue
		}
		if name, ok = strings.CutSuffix(name, "/type"); !ok || files.get(path) != "1" || len(nics) == maxItems {
			continue
		}
		at := "/sys/class/net/" + name
		nics = append(nics, NIC{
			Name:      clean(name),
			MAC:       files.get(at + "/address"),
			Up:        files.get(at+"/carrier") == "1",
			Addresses: addressesOf(name, addresses),
		})
	}
	sortBy(nics, func(n NIC) string { return n.Name })
	return nics
}

// addressesOf reads lines of ip -o addr: "2: eth0    inet 192.0.2.1/24 ...".
func addressesOf(nic string, lines []string) []string {
	found := []string{}
	for _, l := range lines {
		w := strings.Fields(l)
		if len(w) < 4 || w[1] != nic || !strings.HasPrefix(w[2], "inet") {
			continue
		}
		address, _, _ := strings.Cut(w[3], "/") // a peer's address has no length
		if a, err := netip.ParseAddr(address); err == nil && a.Zone() == "" && len(found) < maxItems {
			found = append(found, a.String())
		}
	}
	return found
}

// clean bounds s and makes it safe to print: labels and serials are whatever
// someone wrote on a disk, and could otherwise steer the reader's terminal.
func clean(s string) string {
	s = strings.TrimSpace(s)
	if len(s) > maxText {
		s = s[:maxText]
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return '?'
		}
		return r
	}, s)
}
