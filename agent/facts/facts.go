// Package facts describes what a machine is made of: its firmware, memory,
// network cards and disks.
//
// [Script] gathers the raw data with the tools that every NixOS installer has and
// [Parse] reads them, so that the agent on the machine and the controller over SSH
// come to the same facts, with or without an agent.
package facts

import (
	_ "embed"
	"time"
)

// Script is a POSIX shell script that prints the raw facts of the machine it
// runs on, for [Parse]. It changes nothing and wants to run as root: otherwise
// serial numbers and what lies on the disks are missing.
//
//go:embed gather.sh
var Script string

// Facts is what is known of one machine. Sizes are in bytes.
type Facts struct {
	Product      string `json:"product"`
	Serial       string `json:"serial"`
	UUID         string `json:"uuid"`
	Architecture string `json:"architecture"` // as Nix names it: "x86_64-linux"
	Kernel       string `json:"kernel"`
	CPUs         int    `json:"cpus"`

	Memory          int64 `json:"memory"`
	MemoryAvailable int64 `json:"memory_available"`
	StoreAvailable  int64 `json:"store_available"` // free space of the file system of /nix/store

	Firmware   string    `json:"firmware"`    // "uefi" or "bios"
	SecureBoot bool      `json:"secure_boot"` // enabled, not merely supported
	TPM        string    `json:"tpm"`         // version such as "2.0"; empty if there is none
	Clock      time.Time `json:"clock"`
	BootID     string    `json:"boot_id"`
	MachineID  string    `json:"machine_id"`

	Hostname     string `json:"hostname"`
	NixOSVersion string `json:"nixos_version"`
	Installer    bool   `json:"installer"` // os-release says ID=nixos and VARIANT_ID=installer

	NICs  []NIC  `json:"nics"`
	Disks []Disk `json:"disks"`
}

// A NIC is a network card.
type NIC struct {
	Name      string   `json:"name"`
	MAC       string   `json:"mac"`
	Up        bool     `json:"up"`        // has a carrier
	Addresses []string `json:"addresses"` // without prefix length; link-local ones too
}

// A Disk is a whole block device that could be installed to.
type Disk struct {
	Path       string   `json:"path"`  // "/dev/sda"
	Links      []string `json:"links"` // below /dev/disk/by-id and by-path, sorted
	Model      string   `json:"model"`
	Serial     string   `json:"serial"`
	WWN        string   `json:"wwn"`
	Sequence   int64    `json:"sequence"` // the kernel's diskseq: no other disk has it until the next boot; 0 before Linux 5.15
	Size       int64    `json:"size"`
	SectorSize int      `json:"sector_size"` // logical
	Rotational bool     `json:"rotational"`
	Transport  string   `json:"transport"` // "sata", "nvme", "usb", "virtio", ...
	Removable  bool     `json:"removable"`
	ReadOnly   bool     `json:"read_only"`
	BootMedium bool     `json:"boot_medium"` // the running system was booted from it
	Table      string   `json:"table"`       // "gpt", "dos" or empty
	Volume              // what lies on the disk without a partition table
	Partitions []Volume `json:"partitions"`
}

// A Volume is a partition, or something stacked on one or on a whole disk, such
// as a RAID, LVM or LUKS device.
type Volume struct {
	Device     string   `json:"device"` // "/dev/sda1", "/dev/mapper/root"; of a disk its Path
	Kind       string   `json:"kind"`   // lsblk's TYPE: "disk", "part", "crypt", "lvm", "raid1", ...
	VolumeSize int64    `json:"volume_size"`
	FileSystem string   `json:"file_system"` // "ext4", "crypto_LUKS", "LVM2_member", "swap", ...
	Label      string   `json:"label"`
	PartLabel  string   `json:"part_label"`
	UUID       string   `json:"uuid"`      // of the file system
	PartUUID   string   `json:"part_uuid"` // of the partition
	Mounts     []string `json:"mounts"`    // "[SWAP]" for swap in use
	Holders    []Volume `json:"holders"`   // what is stacked on it and active now
}
