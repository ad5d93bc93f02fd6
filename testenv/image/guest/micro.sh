#!/bin/busybox sh
# The micro guest: a machine on the LAN with an SSH host key and the agent, and
# nothing else, for networks of many machines. Everything comes from the
# initramfs; lab-root holds the programs and nixctl/hostname the name.
export PATH=/bin:/usr/local/bin
/bin/busybox mkdir -p /proc /sys /dev /tmp /run /var/empty /root /etc
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
modprobe -qa virtio_net af_packet
[ ! -d /lab-root ] || {
  cp -a /lab-root/. /
  rm -rf /lab-root
}
name=micro address= gateway=
for a in $(cat /proc/cmdline); do
  case $a in
  ip=*)
    x=${a#ip=}
    address=${x%%:*}
    gateway=$(echo "$x" | cut -d: -f3)
    case $address in */*) ;; *) address=$address/24 ;; esac
    ;;
  systemd.hostname=*) name=${a#*=} ;;
  esac
done
[ ! -f /nixctl/hostname ] || name=$(cat /nixctl/hostname)
hostname "$name"
ip link set lo up
for n in $(ls /sys/class/net | grep -v '^lo$'); do
  ip link set $n up
  if [ -n "$address" ]; then
    ip addr add "$address" broadcast + dev $n
    [ -z "$gateway" ] || ip route add default via "$gateway"
    address=
  else
    udhcpc -b -t 3 -T 2 -i $n -s /bin/udhcpc-script >/dev/null 2>&1 &
  fi
done
keep() {
  [ -x "$1" ] && while :; do
    "$@" >/dev/console 2>&1
    sleep 1
  done
}
keep /usr/local/bin/microsshd /etc/ssh/ssh_host_ed25519_key &
keep /usr/local/bin/nixctl-agent run &
echo "micro: up, uptime $(cut -d' ' -f1 /proc/uptime)" >/dev/console
echo '::ctrlaltdel:/bin/reboot' >/etc/inittab
exec init
