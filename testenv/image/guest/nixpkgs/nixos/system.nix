# The tiny NixOS-shaped system: a kernel, a first stage, busybox, bash, mount and
# OpenSSH, with a profile, generations and a boot loader like NixOS's.
#
# Its parts are fixed-output paths: nix takes them from any store that has them
# (the installer's own, a binary cache) and never builds them.
{ lib, system, config }:
let
  hashes = import ../payload.nix;
  parts = builtins.mapAttrs
    (name: hash: derivation {
      name = "tiny-${name}";
      inherit system;
      builder = "/not-built-but-copied"; # a miss must fail loudly
      outputHashMode = "recursive";
      outputHashAlgo = "sha256";
      outputHash = hash;
    })
    hashes;
  run = name: env: script: derivation ({
    inherit name system;
    builder = "${parts.busybox}/bin/busybox";
    args = [ "sh" "-eu" script ];
    inherit (parts) busybox;
    PATH = "/no-path";
  } // env);

  inherit (config.boot) loader;
  boot = if loader.systemd-boot.enable then "systemd-boot" else "grub";
  root = config.fileSystems."/";
  luks = config.boot.initrd.luks.devices;
  luksArgs = lib.mapAttrsToList (name: d: "tiny.luks=${name},${tag d.device}") luks;

  # udev's names are not there yet when the first stage and fstab want them
  tag = device:
    let under = dir: lib.removePrefix "/dev/disk/by-${dir}/" device; in
    if under "uuid" != device then "UUID=${under "uuid"}"
    else if under "label" != device then "LABEL=${under "label"}"
    else if under "partuuid" != device then "PARTUUID=${under "partuuid"}"
    else if under "partlabel" != device then "PARTLABEL=${under "partlabel"}"
    else device;

  # the shortest first, so that a mount point comes after what it lies on
  mounts = builtins.sort (a: b: builtins.stringLength a.dir < builtins.stringLength b.dir)
    (lib.mapAttrsToList
      (dir: fs: {
        inherit dir;
        device = tag (fs.device or "/dev/disk/by-label/${fs.label}");
        type = fs.fsType or "auto";
        options = builtins.concatStringsSep "," (fs.options or [ "defaults" ]);
      })
      config.fileSystems);
  early = m: builtins.elem m.dir [ "/" "/etc" "/nix" "/nix/store" "/usr" "/var" "/var/lib" "/var/log" ];
  fsArgs = map (m: "tiny.fs=${m.dir},${m.device},${m.type},${m.options}") (builtins.filter early mounts);
  fstab = map (m: "${m.device} ${m.dir} ${m.type} ${m.options} 0 0") mounts
    ++ map (s: "${tag s.device} none swap sw 0 0") config.swapDevices;

  grubDevice =
    if loader.grub.device != "" then loader.grub.device
    else if loader.grub.devices != [ ] then builtins.head loader.grub.devices
    else "";
  ssh = config.services.openssh;
  keys = config.users.users.root.openssh.authorizedKeys;
  hostName = config.networking.hostName;
  version = config.system.nixos.version;

  filler = builtins.genList
    (i: run "filler-${toString i}" { salt = "${hostName}-${toString i}"; inherit (config.tiny.filler) KiB; } ./build/filler.sh)
    config.tiny.filler.count;

  failed = builtins.concatMap (a: lib.optional (!a.ok) "- ${a.message}") [
    { ok = config.fileSystems ? "/"; message = "The ‘fileSystems’ option does not specify your root file system."; }
    {
      ok = loader.systemd-boot.enable || !loader.grub.enable || grubDevice != "" || config.fileSystems ? "/";
      message = "You must set the option ‘boot.loader.grub.devices’ or 'boot.loader.grub.mirroredBoots' to make the system bootable.";
    }
    {
      ok = !(loader.systemd-boot.enable && loader.grub.enable);
      message = "Only one of the boot loaders systemd-boot and grub can be enabled.";
    }
  ];
  checked = x: if failed == [ ] then x else throw "\nFailed assertions:\n${builtins.concatStringsSep "\n" failed}";
in
checked (run "nixos-system-${hostName}-${version}" {
  inherit (parts) kernel initrd userland;
  luksInitrd = lib.optionalString (luks != { }) "${parts.luks}/initrd";
  loader = if loader.systemd-boot.enable then parts.systemd-boot else lib.optionalString loader.grub.enable parts.grub;
  bootloader = if loader.systemd-boot.enable || loader.grub.enable then boot else "none";
  inherit hostName version grubDevice;
  kernelParams = toString (luksArgs ++ fsArgs ++ config.boot.kernelParams ++ [ "console=tty0" "console=ttyS0,115200" "loglevel=4" ]);
  fstab = builtins.concatStringsSep "\n" fstab;
  authorizedKeys = builtins.concatStringsSep "\n" (keys.keys ++ map builtins.readFile keys.keyFiles);
  sshd = lib.optionalString ssh.enable "yes";
  sshPort = toString (builtins.head ssh.ports);
  rootLogin = ssh.settings.PermitRootLogin;
  filler = toString filler;
  src = ./system;
} ./build/toplevel.sh)
