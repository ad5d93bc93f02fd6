#!/bin/busybox sh
# The installed system's first stage: unlocks, mounts what the second stage
# lies on, and hands over. The kernel's command line says what:
# tiny.luks=NAME,DEVICE and tiny.fs=DIR,DEVICE,TYPE,OPTIONS
export PATH=/bin
/bin/busybox mkdir -p /proc /sys /dev /run /tmp /sysroot
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
say() { echo "stage1: $*" >/dev/console; }
die() {
  say "$*"
  sleep 5
  reboot -f
}
echo "<<< NixOS Stage 1 >>>" >/dev/console
modprobe -qa virtio_blk virtio_scsi sd_mod ahci virtio_net virtio_rng vfat nls_cp437 nls_ascii nls_utf8

byUevent() { # KEY VALUE
  for u in /sys/class/block/*/uevent; do
    if grep -qi "^$1=$2\$" $u; then echo /dev/$(sed -n 's/^DEVNAME=//p' $u) && return; fi
  done
}
find() { # the device that a tag stands for now
  case $1 in
  LABEL=* | UUID=*) findfs "$1" 2>/dev/null ;;
  PARTLABEL=*) byUevent PARTNAME "${1#*=}" ;;
  PARTUUID=*) byUevent PARTUUID "${1#*=}" ;;
  *) [ -b "$1" ] && echo "$1" ;;
  esac
}
await() {
  n=0
  until dev=$(find "$1") && [ -n "$dev" ]; do
    n=$((n + 1))
    [ $n -lt 200 ] || die "waited in vain for $1"
    usleep 50000
  done
}

unlock() { # NAME DEVICE
  await "$2"
  modprobe -qa dm_mod dm_crypt xts algif_skcipher
  export DM_DISABLE_UDEV=1
  tries=0
  while [ $tries -lt 3 ]; do
    tries=$((tries + 1))
    printf 'Passphrase for %s: ' "$2" >/dev/console
    stty -echo </dev/console
    IFS= read -r pass </dev/console
    stty echo </dev/console
    echo >/dev/console
    printf %s "$pass" | cryptsetup open --key-file=- "$dev" "$1" && return
    say "no key available with this passphrase"
  done
  die "$2 stays locked"
}

init=
for a in $(cat /proc/cmdline); do
  case $a in
  init=*) init=${a#init=} ;;
  tiny.luks=*) a=${a#*=} && unlock "${a%%,*}" "${a#*,}" ;;
  tiny.fs=*)
    a=${a#tiny.fs=}
    dir=${a%%,*} a=${a#*,}
    tag=${a%%,*} a=${a#*,}
    await "$tag"
    mkdir -p /sysroot$dir
    modprobe -q "${a%%,*}"
    mount -t "${a%%,*}" -o "${a#*,}" "$dev" /sysroot$dir || die "mounting $dev on $dir"
    ;;
  esac
done
[ -n "$init" ] || die "no init= on the command line"
say "handing over, uptime $(cut -d' ' -f1 /proc/uptime)"
mkdir -p /sysroot/proc /sysroot/sys /sysroot/dev /sysroot/run
umount /proc /sys
mount --move /dev /sysroot/dev
exec switch_root /sysroot "$init" </sysroot/dev/console >/sysroot/dev/console 2>&1
