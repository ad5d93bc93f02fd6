# A module system in a page: imports, functions of { config, lib, pkgs,
# modulesPath, ... }, priorities, mkIf and mkMerge. It declares no options: what
# it does not know it carries along unread, so that an ordinary
# configuration.nix evaluates.
{ modules, specialArgs ? { }, system ? "x86_64-linux" }:
let
  lib = import ../lib;
  pkgs = { inherit lib system; stdenv.hostPlatform = { inherit system; }; };
  args = { inherit config lib pkgs; options = { }; modulesPath = toString ./modules; } // specialArgs;

  # a module and all that it imports
  load = m:
    let
      value = if builtins.isPath m || builtins.isString m then import m else m;
      module = if builtins.isFunction value then value args else value;
    in
    builtins.concatMap load (module.imports or [ ]) ++ [ module ];
  definitions = module: module.config or (removeAttrs module [ "imports" "options" "disabledModules" "_file" "key" ]);

  # a definition is { priority, value }; its wrappers are taken off
  unwrap = d:
    let t = if builtins.isAttrs d.value then d.value._type or null else null;
    in
    if t == "if" then (if d.value.condition then unwrap (d // { value = d.value.content; }) else [ ])
    else if t == "merge" then builtins.concatMap (value: unwrap (d // { inherit value; })) d.value.contents
    else if t == "override" then unwrap { inherit (d.value) priority; value = d.value.content; }
    else [ d ];
  isSet = v: builtins.isAttrs v && !(v ? outPath);

  merge = path: wrapped:
    let
      defs = builtins.concatMap unwrap wrapped;
      best = builtins.foldl' (p: d: if d.priority < p then d.priority else p) 9999 defs;
      values = map (d: d.value) (builtins.filter (d: d.priority == best) defs);
      first = builtins.head values;
      names = builtins.concatMap (d: builtins.attrNames d.value) defs;
      child = name: {
        inherit name;
        value = merge (path ++ [ name ])
          (builtins.concatMap (d: if d.value ? ${name} then [ (d // { value = d.value.${name}; }) ] else [ ]) defs);
      };
      shown = builtins.concatStringsSep "." path;
    in
    if values == [ ] then throw "The option `${shown}' was accessed but has no value defined. Try setting the option."
    else if builtins.all (d: isSet d.value) defs then builtins.listToAttrs (map child names)
    else if builtins.all builtins.isList values then builtins.concatLists values
    else if builtins.all (v: v == first) values then first
    else throw "The option `${shown}' has conflicting definition values.";

  all = builtins.concatMap load ([ ./defaults.nix ] ++ modules);
  merged = merge [ ] (map (m: { priority = 100; value = definitions m; }) all);
  config = merged // {
    system = merged.system // {
      build = { toplevel = import ./system.nix { inherit lib system; config = merged; }; } // (merged.system.build or { });
    };
  };
in
{ inherit config lib pkgs; options = { }; }
