# What nixos-install builds when it is given a configuration.nix.
{ configuration ? <nixos-config> }:
let
  eval = import ./eval.nix { modules = [ configuration ]; };
in
{
  inherit (eval) config options pkgs;
  system = eval.config.system.build.toplevel;
}
