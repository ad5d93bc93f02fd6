package image

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// nixpkgs writes the stand-in for nixpkgs, and the flake around it, as the
// image has them, with made-up hashes.
func nixpkgs(t *testing.T) (flake string) {
	t.Helper()
	if _, err := exec.LookPath("nix-instantiate"); err != nil {
		t.Skip("needs nix")
	}
	dir := t.TempDir()
	for from, to := range map[string]string{"guest/flake": dir, "guest/nixpkgs": dir + "/nixpkgs"} {
		if err := unpack(from, to); err != nil {
			t.Fatal(err)
		}
	}
	var hashes strings.Builder
	for _, part := range []string{"busybox", "kernel", "initrd", "luks", "userland", "systemd-boot", "grub"} {
		hashes.WriteString(part + " = \"sha256:" + strings.Repeat("0", 51) + "1\";\n")
	}
	write(t, filepath.Join(dir, "nixpkgs/payload.nix"), "{\n"+hashes.String()+"}\n")
	return dir
}

// eval evaluates a Nix expression to JSON without building or storing anything.
func eval(t *testing.T, dir, expr string, into any) error {
	t.Helper()
	cmd := exec.Command("nix-instantiate", "--eval", "--strict", "--json", "-I", "nixpkgs="+dir+"/nixpkgs", "-E", expr)
	cmd.Env = append(os.Environ(), "NIX_REMOTE=dummy://", "NIX_STATE_DIR="+t.TempDir(), "XDG_CACHE_HOME="+t.TempDir())
	out, err := output(cmd)
	if err != nil {
		return err
	}
	out = out[strings.IndexAny(out, `{["`):] // warnings come first
	if err := json.Unmarshal([]byte(out), into); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return nil
}

// derivation is what the tiny system is built from.
type derivation struct {
	Name, KernelParams, Fstab, Bootloader, GrubDevice, HostName, LuksInitrd, AuthorizedKeys, Sshd, RootLogin string
}

const attrs = `(s: { inherit (s) name kernelParams fstab bootloader grubDevice hostName luksInitrd authorizedKeys sshd rootLogin; })`

func TestFlakeHosts(t *testing.T) {
	dir := nixpkgs(t)
	write(t, filepath.Join(dir, "authorized_keys"), "ssh-ed25519 AAAA one\nssh-ed25519 BBBB two\n")
	var hosts map[string]derivation
	err := eval(t, dir, `builtins.mapAttrs (_: h: `+attrs+` h.config.system.build.toplevel)
		(removeAttrs ((import `+dir+`/flake.nix).outputs { self = null; }).nixosConfigurations [ "big" "big-bios" ])`, &hosts)
	if err != nil {
		t.Fatal(err)
	}
	const root = "tiny.fs=/,LABEL=nixos,"
	for name, want := range map[string]struct{ params, fstab, boot string }{
		"tiny":      {root + "ext4,defaults console=", "LABEL=ESP /boot vfat umask=0077 0 0", "systemd-boot"},
		"tiny-bios": {root + "ext4,defaults console=", "LABEL=nixos / ext4 defaults 0 0", "grub"},
		"tiny-luks": {"tiny.luks=root,PARTLABEL=nixctl-root tiny.fs=/,/dev/mapper/root,ext4,defaults console=", "LABEL=swap none swap sw 0 0", "systemd-boot"},
		"tiny-btrfs-bios": {root + "btrfs,subvol=@,compress=zstd tiny.fs=/nix,LABEL=nixos,btrfs,subvol=@nix,compress=zstd console=",
			"LABEL=nixos /home btrfs subvol=@home,compress=zstd 0 0", "grub"},
		"tiny-xfs": {root + "xfs,defaults console=", "LABEL=nixos / xfs defaults 0 0", "systemd-boot"},
	} {
		got := hosts[name]
		if !strings.HasPrefix(got.KernelParams, want.params) || !strings.Contains(got.Fstab, want.fstab) || got.Bootloader != want.boot {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
		if got.Name != "nixos-system-"+name+"-25.05.test" || got.HostName != name || got.AuthorizedKeys != "ssh-ed25519 AAAA one\nssh-ed25519 BBBB two" {
			t.Errorf("%s: %+v", name, got)
		}
		if (got.LuksInitrd != "") != (name == "tiny-luks") {
			t.Errorf("%s: second initrd %q", name, got.LuksInitrd)
		}
	}
}

// system evaluates a configuration.nix as nixos-install does.
func system(t *testing.T, config string) (derivation, error) {
	t.Helper()
	dir := nixpkgs(t)
	write(t, filepath.Join(dir, "conf/configuration.nix"), config)
	write(t, filepath.Join(dir, "conf/hardware-configuration.nix"), `{ config, lib, pkgs, modulesPath, ... }:
		{
		  imports = [ (modulesPath + "/profiles/qemu-guest.nix") (modulesPath + "/installer/scan/not-detected.nix") ];
		  boot.initrd.availableKernelModules = [ "ahci" ];
		  fileSystems."/" = { device = "/dev/disk/by-uuid/11-22"; fsType = "ext4"; };
		  swapDevices = [ { device = "/dev/disk/by-partuuid/33"; } ];
		  networking.useDHCP = lib.mkDefault true;
		  nixpkgs.hostPlatform = lib.mkDefault "x86_64-linux";
		}`)
	var got derivation
	return got, eval(t, dir, attrs+` (import <nixpkgs/nixos> { configuration = `+dir+`/conf/configuration.nix; }).system`, &got)
}

func TestConfiguration(t *testing.T) {
	got, err := system(t, `{ config, lib, pkgs, ... }:
		{
		  imports = [ ./hardware-configuration.nix ];
		  boot.loader.grub.enable = true;
		  boot.loader.grub.device = "/dev/disk/by-id/virtio-target0";
		  networking.hostName = "first-try";
		  services.openssh = { enable = true; settings.PermitRootLogin = lib.mkForce "yes"; };
		  users.users.root.openssh.authorizedKeys.keys = lib.mkMerge [ [ "key one" ] (lib.mkIf false [ "key two" ]) ];
		  users.users.alice.isNormalUser = true;
		  environment.systemPackages = with pkgs; [ vim git ];
		  fileSystems."/home" = lib.mkIf config.services.openssh.enable { label = "home"; fsType = "xfs"; };
		  nix.settings.experimental-features = [ "nix-command" "flakes" ];
		  system.stateVersion = "25.05";
		}`)
	if err != nil {
		t.Fatal(err)
	}
	want := derivation{
		Name:         "nixos-system-first-try-25.05.test",
		KernelParams: "tiny.fs=/,UUID=11-22,ext4,defaults console=tty0 console=ttyS0,115200 loglevel=4",
		Fstab:        "UUID=11-22 / ext4 defaults 0 0\nLABEL=home /home xfs defaults 0 0\nPARTUUID=33 none swap sw 0 0",
		Bootloader:   "grub", GrubDevice: "/dev/disk/by-id/virtio-target0", HostName: "first-try",
		AuthorizedKeys: "key one", Sshd: "yes", RootLogin: "yes",
	}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestConfigurationErrors(t *testing.T) {
	for config, want := range map[string]string{
		`{ boot.loader.systemd-boot.enable = true; }`: "does not specify your root file system",
		`{ imports = [ ./hardware-configuration.nix ]; boot.loader.systemd-boot.enable = true; boot.loader.grub.enable = true; }`: "Only one of the boot loaders",
		`{ imports = [ ./hardware-configuration.nix ./none.nix ]; }`:                                                              "none.nix",
		`{ imports = [ ./hardware-configuration.nix ]; networking.hostName = "a"; }}`:                                             "syntax error",
		`{ imports = [ ./hardware-configuration.nix { networking.hostName = "b"; } ]; networking.hostName = "a"; }`:               "`networking.hostName' has conflicting definition values",
		`{ ... }: { imports = [ ./hardware-configuration.nix ]; networking.hostName = nonsense; }`:                                "undefined variable",
	} {
		if got, err := system(t, config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v; want %q", config, got, err, want)
		}
	}
}
