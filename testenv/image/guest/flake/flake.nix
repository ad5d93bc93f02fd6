# Hosts for tests: a flake without inputs, which evaluates and builds offline.
# nixpkgs/ is the lab's stand-in for nixpkgs, the same as <nixpkgs> on its
# installer.
{
  description = "NixOS-shaped test systems";
  outputs = { self }:
    let
      lib = import ./nixpkgs/lib // { nixosSystem = import ./nixpkgs/nixos/eval.nix; };
      host = name: module: lib.nixosSystem { modules = [ ./base.nix module { networking.hostName = lib.mkDefault name; } ]; };
    in
    {
      inherit lib;
      nixosConfigurations = builtins.mapAttrs host (import ./hosts.nix);
    };
}
