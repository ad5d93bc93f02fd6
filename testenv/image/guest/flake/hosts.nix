let
  uefi = {
    boot.loader.systemd-boot.enable = true;
    boot.loader.efi.canTouchEfiVariables = true;
    fileSystems."/boot" = { device = "/dev/disk/by-label/ESP"; fsType = "vfat"; options = [ "umask=0077" ]; };
  };
  bios = { boot.loader.grub.enable = true; };
  subvolume = name: { device = "/dev/disk/by-label/nixos"; fsType = "btrfs"; options = [ "subvol=${name}" "compress=zstd" ]; };
  btrfs = { fileSystems = { "/" = subvolume "@"; "/home" = subvolume "@home"; "/nix" = subvolume "@nix"; }; };
  xfs = { fileSystems."/".fsType = "xfs"; };
  swap = { swapDevices = [ { device = "/dev/disk/by-label/swap"; } ]; };
  luks = {
    boot.initrd.luks.devices.root.device = "/dev/disk/by-partlabel/nixctl-root";
    fileSystems."/".device = "/dev/mapper/root";
  };
  big = { tiny.filler.count = 200; };
in
builtins.mapAttrs (_: imports: { inherit imports; }) {
  tiny = [ uefi ];
  tiny-bios = [ bios ];
  tiny-swap = [ uefi swap ];
  tiny-luks = [ uefi luks swap ];
  tiny-btrfs = [ uefi btrfs ];
  tiny-btrfs-bios = [ bios btrfs ];
  tiny-xfs = [ uefi xfs ];
  tiny-xfs-bios = [ bios xfs ];
  big = [ uefi big ];
  big-bios = [ bios big ];
}
