#!/bin/busybox sh
# First stage of the installer: finds the squashfs on the disk with serial
# "nixiso" (its CD, so to say), lays a tmpfs over it, adds what was injected
# into the initramfs, and hands over.
export PATH=/bin
/bin/busybox mkdir -p /proc /sys /dev /tmp /ro /rw /newroot
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
die() {
  echo "stage1: $*" >/dev/console
  sleep 2
  reboot -f
}
modprobe -qa virtio_blk virtio_scsi sd_mod ahci squashfs overlay

medium() {
  for s in /sys/block/*/serial /sys/block/*/device/serial /sys/block/*/device/vpd_pg80; do
    if grep -q nixiso "$s" 2>/dev/null; then
      d=${s#/sys/block/}
      echo "/dev/${d%%/*}"
      return
    fi
  done
}
n=0
while src=$(medium) && [ -z "$src" ] && [ $n -lt 200 ]; do
  n=$((n + 1))
  usleep 50000
done
[ -n "$src" ] || die "no disk with serial nixiso"
mount -t squashfs -o ro "$src" /ro || die "$src is no squashfs"
mount -t tmpfs -o mode=755,size=90% tmpfs /rw
mkdir -p /rw/u /rw/w
mount -t overlay -o lowerdir=/ro,upperdir=/rw/u,workdir=/rw/w overlay /newroot || die "no overlay"
# where an installer has its medium, so that lsblk tells which disk that is
mount --move /ro /newroot/iso

for p in etc/ssh root/.ssh users nixctl; do
  [ -d /$p ] || continue
  mkdir -p /newroot/$p
  cp -a /$p/. /newroot/$p/
done
[ ! -d /lab-root ] || cp -a /lab-root/. /newroot/
new=/newroot
if [ -f $new/nixctl/authorized_keys ]; then
  mkdir -p $new/root/.ssh
  (umask 077 && cat $new/nixctl/authorized_keys >>$new/root/.ssh/authorized_keys)
fi
[ ! -d $new/root/.ssh ] || chmod 700 $new/root/.ssh
[ ! -f $new/root/.ssh/authorized_keys ] || chmod 600 $new/root/.ssh/authorized_keys
[ ! -f $new/etc/ssh/ssh_host_ed25519_key ] || chmod 600 $new/etc/ssh/ssh_host_ed25519_key

init=/sbin/init
for a in $(cat /proc/cmdline); do
  case $a in
  init=*) init=${a#init=} ;;
  systemd.hostname=*) echo "${a#*=}" >$new/etc/hostname ;;
  ip=*) # ADDRESS[/BITS]::[GATEWAY]
    x=${a#ip=}
    address=${x%%:*}
    gateway=$(echo "$x" | cut -d: -f3)
    case $address in */*) ;; *) address=$address/24 ;; esac
    printf 'address=%s\ngateway=%s\n' "$address" "$gateway" >$new/etc/lab-address
    {
      printf '[Match]\nType=ether\n[Network]\nAddress=%s\nLinkLocalAddressing=ipv6\nIPv6AcceptRA=no\n' "$address"
      [ -z "$gateway" ] || printf 'Gateway=%s\n' "$gateway"
    } >$new/etc/systemd/network/10-static.network
    ;;
  esac
done
[ ! -f $new/nixctl/hostname ] || cp $new/nixctl/hostname $new/etc/hostname
echo "stage1: done, uptime $(cut -d' ' -f1 /proc/uptime)" >/dev/console
umount /proc /sys
mount --move /dev $new/dev
exec switch_root $new "$init" <$new/dev/console >$new/dev/console 2>&1
