# The first configuration of web1, written by nixctl. It is yours now: change
# it, copy it somewhere safe, and apply it on the machine with
#
#   nixos-rebuild switch
#
# All options are explained at https://search.nixos.org/options and by
# "man configuration.nix".
{ lib, ... }:

{
  # File systems, swap, encryption and drivers, as nixos-generate-config found
  # them on this machine.
  imports = [ ./hardware-configuration.nix ];

  # Boot by UEFI. The firmware is told to start this system first, so that a USB
  # stick left in the machine does not come before it. Firmware that refuses to
  # be told still finds the copy at the place where it looks by default.
  boot.loader.systemd-boot.enable = true;
  boot.loader.systemd-boot.graceful = true;
  boot.loader.efi.canTouchEfiVariables = true;

  networking.hostName = "web1";

  # Ask every network for an address.
  networking.useDHCP = lib.mkDefault true;

  time.timeZone = "UTC";

  # Log in by SSH, with a key and never with a password.
  services.openssh = {
    enable = true;
    settings = {
      PasswordAuthentication = false;
      KbdInteractiveAuthentication = false;
      PermitRootLogin = "prohibit-password";
    };
    # One host key only: the one by which nixctl recognises this machine.
    hostKeys = [
      {
        type = "ed25519";
        path = "/etc/ssh/ssh_host_ed25519_key";
      }
    ];
  };

  # Who may log in as root. Root has no password.
  users.users.root.openssh.authorizedKeys.keys = [
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl alice@example.org"
  ];

  nix.settings.experimental-features = [
    "nix-command"
    "flakes"
  ];

  # The release that this machine began with. It keeps stored data readable and
  # stays as it is, even when the machine is upgraded.
  system.stateVersion = "25.11";
}
