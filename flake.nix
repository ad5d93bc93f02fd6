{
  description = "Install NixOS on machines that you cannot touch";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      forSystems = systems: f: lib.genAttrs systems (system: f nixpkgs.legacyPackages.${system});
      linux = [ "x86_64-linux" "aarch64-linux" ];
      darwin = [ "x86_64-darwin" "aarch64-darwin" ];

      program =
        pkgs: name: dir: about:
        (pkgs.buildGo126Module or pkgs.buildGoModule) {
          pname = name;
          version = "0.1.0";
          src = self;
          vendorHash = "sha256-IiINE7C50CUlLxwticUkT20iuymdA1ntL0laZNVTxb0=";
          subPackages = [ "${dir}/${name}" ];
          env.CGO_ENABLED = 0;
          ldflags = [ "-s" "-w" ];
          doCheck = false; # the tests need root, namespaces and QEMU: go run ./testenv test
          meta = {
            description = about;
            mainProgram = name;
            license = lib.licenses.mit;
          };
        };
    in
    {
      packages = lib.recursiveUpdate
        (forSystems (linux ++ darwin) (pkgs: rec {
          nixctl = program pkgs "nixctl" "controller" "Finds booted NixOS installers, proves who they are and installs onto them";
          default = nixctl;
        }))
        (forSystems linux (pkgs: {
          nixctl-agent = program pkgs "nixctl-agent" "agent" "Announces a booted NixOS installer to nixctl";
        }));

      # What the lab takes from its host; as root: go run ./testenv demo
      devShells = forSystems linux (pkgs: {
        default = pkgs.mkShell {
          packages = with pkgs; [
            go_1_26 qemu OVMF.fd mmdebstrap dpkg squashfsTools xz zstd cpio gptfdisk parted dosfstools mtools e2fsprogs btrfs-progs
            xfsprogs cryptsetup busybox iproute2 nftables openssh dbus avahi arp-scan nmap git dnsmasq mdadm lvm2
          ];
        };
      });
    };
}
