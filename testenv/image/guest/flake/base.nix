# What all hosts have: one root file system found by its label, and root's keys
# from the file "authorized_keys" beside this one.
{ lib, ... }:
{
  fileSystems."/" = { device = lib.mkDefault "/dev/disk/by-label/nixos"; fsType = lib.mkDefault "ext4"; };
  services.openssh.enable = true;
  users.users.root.openssh.authorizedKeys.keys =
    builtins.filter (l: l != "") (lib.splitString "\n" (builtins.readFile ./authorized_keys));
  system.stateVersion = "25.05";
}
