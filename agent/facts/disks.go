package facts

import (
	"cmp"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A node is one block device as lsblk -J prints it, with what is stacked on it.
type node struct {
	Name        scalar   `json:"name"`
	KName       scalar   `json:"kname"`
	Path        scalar   `json:"path"`
	Type        scalar   `json:"type"`
	Size        scalar   `json:"size"`
	LogSec      scalar   `json:"log-sec"`
	Rota        scalar   `json:"rota"`
	Tran        scalar   `json:"tran"`
	RM          scalar   `json:"rm"`
	RO          scalar   `json:"ro"`
	Model       scalar   `json:"model"`
	Serial      scalar   `json:"serial"`
	WWN         scalar   `json:"wwn"`
	PTType      scalar   `json:"pttype"`
	FSType      scalar   `json:"fstype"`
	Label       scalar   `json:"label"`
	PartLabel   scalar   `json:"partlabel"`
	UUID        scalar   `json:"uuid"`
	PartUUID    scalar   `json:"partuuid"`
	Mountpoint  scalar   `json:"mountpoint"` // before util-linux 2.37
	Mountpoints []scalar `json:"mountpoints"`
	Children    []node   `json:"children"`
}

// A scalar is a JSON string, number, boolean or null, as clean text: which of
// them lsblk prints differs between its versions.
type scalar string

func (s *scalar) UnmarshalJSON(b []byte) error {
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	switch v := v.(type) {
	case string:
		*s = scalar(clean(v))
	case bool:
		*s = scalar(strconv.FormatBool(v))
	case float64:
		*s = scalar(clean(string(b))) // as written: sizes may not fit a float
	case nil:
		*s = ""
	default:
		return fmt.Errorf("%.40q is neither text nor a number", b)
	}
	return nil
}

// int returns a number that is not negative.
func (s scalar) int() int64 {
	n, err := strconv.ParseUint(string(s), 10, 63)
	if err != nil {
		return 0
	}
	return int64(n)
}

func (s scalar) bool() bool { return s == "true" || s == "1" }

func readDisks(s sections, files files, keep func(node) bool) ([]Disk, error) {
	var out struct {
		Devices []node `json:"blockdevices"`
	}
	if err := json.Unmarshal([]byte(strings.Join(s["lsblk"], "\n")), &out); err != nil {
		return nil, fmt.Errorf("%w: lsblk: %w", ErrMalformed, err)
	}
	links := readLinks(s["links"])
	pages := readPages(s["pages"])
	contents := readContents(s["blkid"])
	bootLabel := kernelLabel(files.get("/proc/cmdline"))
	disks := []Disk{}
	for _, n := range out.Devices {
		if !keep(n) || len(disks) == maxItems {
			continue
		}
		n.complete(files, pages)
		n.fill(contents)
		d := n.disk()
		d.Links = append(d.Links, links[string(n.KName)]...)
		d.Sequence = scalar(files.get("/sys/block/" + string(n.KName) + "/diskseq")).int()
		d.BootMedium = n.carries(bootLabel)
		disks = append(disks, d)
	}
	sortBy(disks, func(d Disk) string { return d.Path })
	return disks, nil
}

// notDisks are whole devices of lsblk's type "disk" that nobody installs to:
// memory, floppies and the boot and replay-protected areas of eMMC.
var notDisks = regexp.MustCompile(`^(zram|ram|fd)\d+$|^mmcblk\d+(boot\d+|rpmb)$`)

// installable tells disks, and optical media that can be read, from the rest.
func installable(n node) bool {
	switch n.Type {
	case "disk":
		return n.Size.int() > 0 && !notDisks.MatchString(string(n.KName))
	case "rom": // an empty drive has a size too, but nothing to read
		return n.Size.int() > 0 && n.FSType != ""
	}
	return false
}

// complete fills in from /sys what lsblk takes from udev, which may not run.
func (n *node) complete(files files, pages map[string]string) {
	at := "/sys/block/" + string(n.KName) + "/"
	n.Serial = cmp.Or(n.Serial, scalar(files.get(at+"serial")), scalar(files.get(at+"device/serial")),
		scalar(pages[string(n.KName)]))
	n.Model = cmp.Or(n.Model, scalar(files.get(at+"device/model")))
	if n.WWN == "" {
		n.WWN = wwn(cmp.Or(files.get(at+"wwid"), files.get(at+"device/wwid")))
	}
}

// fill adds to n and all that is on it what blkid knows, where lsblk does not.
func (n *node) fill(contents map[string]map[string]string) {
	c := contents[string(n.Path)]
	for field, key := range map[*scalar]string{
		&n.FSType: "TYPE", &n.PTType: "PTTYPE", &n.Label: "LABEL", &n.UUID: "UUID", &n.PartLabel: "PARTLABEL", &n.PartUUID: "PARTUUID",
	} {
		*field = cmp.Or(*field, scalar(c[key]))
	}
	for i := range n.Children {
		n.Children[i].fill(contents)
	}
}

// wwn writes the kernel's world wide name as udev does. Other kinds of wwid
// ("t10.", "nvme.") repeat the model and are not unique.
func wwn(wwid string) scalar {
	if hex, ok := strings.CutPrefix(wwid, "naa."); ok {
		return scalar("0x" + hex)
	}
	if strings.HasPrefix(wwid, "eui.") {
		return scalar(wwid)
	}
	return ""
}

func (n node) disk() Disk {
	d := Disk{
		Path:       cmp.Or(string(n.Path), "/dev/"+string(n.KName)),
		Links:      []string{},
		Model:      string(n.Model),
		Serial:     string(n.Serial),
		WWN:        string(n.WWN),
		Size:       n.Size.int(),
		SectorSize: int(min(n.LogSec.int(), 1<<20)),
		Rotational: n.Rota.bool(),
		Transport:  string(n.Tran),
		Removable:  n.RM.bool(),
		ReadOnly:   n.RO.bool() || n.Type == "rom",
		Table:      string(n.PTType),
		Partitions: []Volume{},
	}
	if d.Transport == "" && strings.HasPrefix(string(n.KName), "vd") {
		d.Transport = "virtio" // lsblk says so since util-linux 2.36 only
	}
	children := n.Children
	n.Children = nil
	d.Volume = n.volume()
	for _, c := range children {
		if c.Type == "part" {
			d.Partitions = append(d.Partitions, c.volume())
		} else {
			d.Holders = append(d.Holders, c.volume())
		}
	}
	return d
}

func (n node) volume() Volume {
	v := Volume{
		Device:     cmp.Or(string(n.Path), "/dev/"+string(n.KName)),
		Kind:       string(n.Type),
		VolumeSize: n.Size.int(),
		FileSystem: string(n.FSType),
		Label:      string(n.Label),
		PartLabel:  string(n.PartLabel),
		UUID:       string(n.UUID),
		PartUUID:   string(n.PartUUID),
		Mounts:     n.mounts(),
		Holders:    []Volume{},
	}
	for _, c := range n.Children {
		v.Holders = append(v.Holders, c.volume())
	}
	return v
}

func (n node) mounts() []string {
	mounts := []string{}
	for _, m := range append(n.Mountpoints, n.Mountpoint) {
		if m != "" && !slices.Contains(mounts, string(m)) {
			mounts = append(mounts, string(m))
		}
	}
	return mounts
}

// bootMounts are the places where live systems mount their medium: NixOS, then
// Fedora, Debian and Ubuntu. A disk with the root file system is one too.
var bootMounts = []string{"/", "/iso", "/nix/.ro-store", "/run/initramfs/live", "/run/live/medium", "/cdrom"}

// carries reports whether the running system was booted from n or from
// something on it. A system that copied itself to memory has let go of its
// medium, which is then known by the label on the kernel's command line; and
// Ventoy maps the image it booted with a device-mapper device of that name.
func (n node) carries(bootLabel string) bool {
	for _, m := range n.mounts() {
		if slices.Contains(bootMounts, m) {
			return true
		}
	}
	if bootLabel != "" && string(n.Label) == bootLabel || n.Name == "ventoy" {
		return true
	}
	return slices.ContainsFunc(n.Children, func(c node) bool { return c.carries(bootLabel) })
}

// kernelLabel returns the label of the file system that the kernel's command
// line names as root, and "" if it names it otherwise.
func kernelLabel(cmdline string) string {
	for word := range strings.FieldsSeq(cmdline) {
		for _, prefix := range []string{"root=LABEL=", "root=/dev/disk/by-label/", "root=live:LABEL=", "root=live:CDLABEL="} {
			if label, ok := strings.CutPrefix(word, prefix); ok {
				return strings.ReplaceAll(label, `\x20`, " ") // as udev and GRUB escape it
			}
		}
	}
	return ""
}

// readLinks reads ls -l of the folders of links, by kernel name. Names in them
// have no spaces: udev escapes them.
func readLinks(lines []string) map[string][]string {
	links := make(map[string][]string)
	dir := ""
	for _, l := range lines {
		if d, ok := strings.CutSuffix(l, ":"); ok && strings.HasPrefix(d, "/dev/disk/") {
			dir = clean(d)
			continue
		}
		left, target, ok := strings.Cut(l, " -> ")
		w := strings.Fields(left)
		if !ok || dir == "" || len(w) == 0 {
			continue
		}
		kname := target[strings.LastIndexByte(target, '/')+1:]
		if name := clean(w[len(w)-1]); len(links[kname]) < maxItems {
			links[kname] = append(links[kname], dir+"/"+name)
		}
	}
	for _, l := range links {
		slices.Sort(l)
	}
	return links
}

// readContents reads blkid -o export, by device: lines of KEY=value with special
// characters escaped by a backslash, DEVNAME first.
func readContents(lines []string) map[string]map[string]string {
	contents := make(map[string]map[string]string)
	device := ""
	for _, l := range lines {
		key, value, ok := strings.Cut(strings.ReplaceAll(l, `\`, ""), "=")
		switch {
		case !ok:
		case key == "DEVNAME":
			device = value
			contents[device] = make(map[string]string)
		case device != "":
			contents[device][key] = clean(value)
		}
	}
	return contents
}

// readPages reads the serials of SCSI disks: "sda/device/vpd_pg80:TEXT", by
// kernel name.
func readPages(lines []string) map[string]string {
	pages := make(map[string]string)
	for _, l := range lines {
		if path, text, ok := strings.Cut(l, ":"); ok {
			kname, _, _ := strings.Cut(path, "/")
			pages[kname] = clean(text)
		}
	}
	return pages
}

func sortBy[T any](s []T, key func(T) string) {
	slices.SortStableFunc(s, func(a, b T) int { return cmp.Compare(key(a), key(b)) })
}
