package vm

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

const qemu = "qemu-system-x86_64"

// ovmfPairs lists where distributions keep UEFI firmware for x86-64: code
// first, then the empty variable store that belongs to it.
func ovmfPairs() [][2]string {
	pairs := [][2]string{
		{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},           // Debian, Ubuntu
		{"/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"},   // Arch
		{"/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"},       // Fedora
		{"/run/libvirt/nix-ovmf/OVMF_CODE.fd", "/run/libvirt/nix-ovmf/OVMF_VARS.fd"},     // NixOS with libvirt
		{"/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"},                 // older Debian
		{"/usr/share/qemu/ovmf-x86_64-code.bin", "/usr/share/qemu/ovmf-x86_64-vars.bin"}, // openSUSE
	}
	// QEMU brings its own where it is built from source: nixpkgs, Homebrew.
	if bin, err := exec.LookPath(qemu); err == nil {
		if real, err := filepath.EvalSymlinks(bin); err == nil {
			share := filepath.Join(filepath.Dir(real), "..", "share", "qemu")
			pairs = append(pairs, [2]string{filepath.Join(share, "edk2-x86_64-code.fd"), filepath.Join(share, "edk2-i386-vars.fd")})
		}
	}
	return pairs
}

func findOVMF() (code, vars string, err error) {
	for _, p := range ovmfPairs() {
		if exists(p[0]) && exists(p[1]) {
			return p[0], p[1], nil
		}
	}
	return "", "", fmt.Errorf("no UEFI firmware for virtual machines found, looked for %q and others; install the package ovmf (Debian) or edk2-ovmf", ovmfPairs()[0][0])
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}
