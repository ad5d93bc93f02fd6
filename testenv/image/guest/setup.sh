#!/bin/sh
# Runs inside the new root, once, when the image is built.
set -eu
groupadd -r -g 30000 nixbld
for i in 1 2 3 4; do
  useradd -r -u $((30000 + i)) -g nixbld -G nixbld -d /var/empty -s /usr/sbin/nologin nixbld$i
done
mkdir -p /nix/store /nix/var/nix/profiles/per-user/root /iso /mnt /root/.ssh
chown root:nixbld /nix/store
chmod 1775 /nix/store
chmod 700 /root/.ssh
rm -f /etc/ssh/ssh_host_* /var/lib/dbus/machine-id
: >/etc/machine-id
: >/etc/fstab
echo installer >/etc/hostname
ln -sfn ../usr/lib/os-release /etc/os-release
ln -sfn /usr /usr/local/lib/current-system/sw
ln -sfn /run/systemd/resolve/stub-resolv.conf /etc/resolv.conf
cp -f /etc/set-environment /etc/profile.d/nixos.sh
depmod "$(ls /usr/lib/modules)"

# Under emulation each unit costs 0.1 to 0.4 s of CPU for a process that starts another.
sc() { systemctl -q "$@" 2>/dev/null; }
sc set-default multi-user.target
sc enable systemd-networkd systemd-resolved ssh ssh-hostkey nixctl-agent nixctl-status@tty1 nixctl-status@ttyS0
for u in $(cat /masked-units); do ln -sfn /dev/null /etc/systemd/system/$u; done
rm /masked-units
cd /usr/lib/systemd/system-generators
for g in ssh gpt-auto cryptsetup integritysetup veritysetup hibernate-resume bless-boot rc-local sysv tpm2 factory-reset import system-update; do
  rm -f systemd-$g-generator
done
rm -f /usr/lib/systemd/system-generators/lvm2* /usr/lib/systemd/system-generators/mdadm*
# else sshd answers "System is booting up" for seconds
rm -f /usr/lib/tmpfiles.d/systemd-nologin.conf
# big and not needed
rm -rf /usr/lib/udev/hwdb.bin /usr/lib/udev/hwdb.d /var/cache/apt /var/lib/apt/lists /debs /usr/lib/python3* /usr/share/zoneinfo
# without logind, else reboot asks for it on the bus and complains
rm -f /usr/share/dbus-1/system-services/org.freedesktop.login1.service
