# The options that make a difference to the tiny system, with NixOS's defaults.
{ config, lib, ... }:
let d = lib.mkOptionDefault; in
{
  boot.loader.systemd-boot.enable = d false;
  boot.loader.grub = {
    enable = d (!config.boot.loader.systemd-boot.enable);
    device = d "";
    devices = d [ ];
  };
  boot.loader.timeout = d 5;
  boot.loader.efi.efiSysMountPoint = d "/boot";
  boot.kernelParams = d [ ];
  boot.initrd.luks.devices = d { };
  fileSystems = d { };
  swapDevices = d [ ];
  networking.hostName = d "nixos";
  networking.useDHCP = d true;
  services.openssh = {
    enable = d false;
    ports = d [ 22 ];
    settings.PermitRootLogin = d "prohibit-password";
    settings.PasswordAuthentication = d true;
  };
  users.users.root.openssh.authorizedKeys = { keys = d [ ]; keyFiles = d [ ]; };
  system.nixos.version = d "25.05.test";
  # not NixOS's: so many extra store paths of so many KiB, to give a closure its weight
  tiny.filler = { count = d 0; KiB = d 512; };
}
