
# While we hold this lock udev leaves the disk alone: it neither assembles what we
# take down nor keeps partitions busy by looking at them.
# https://systemd.io/BLOCK_DEVICE_LOCKING
exec 9<>"$device"
if command -v flock >/dev/null; then
	flock -w 30 9 || refuse "$device is locked by another program"
fi

# take_down NAME: ends a RAID or mapped device, after what is stacked on it.
take_down() {
	release "$1"
	case $1 in
	md*)
		echo "stopping RAID /dev/$1"
		mdadm --quiet --stop "/dev/$1" || echo clear >"/sys/block/$1/md/array_state"
		;;
	dm-*)
		first "/sys/block/$1/dm/name"
		case $line in ventoy) refuse "$device is the Ventoy medium that this system was booted from" ;; esac
		echo "closing /dev/mapper/$line"
		dmsetup remove --retry "$line" || cryptsetup close "$line"
		;;
	*) refuse "$device is in use by $1; end that first" ;;
	esac
}

# release NAME: takes down what is stacked on a device and on its partitions.
release() {
	for holder in /sys/class/block/"$1"/holders/* /sys/class/block/"$1"/"$1"*/holders/*; do
		if [ -e "$holder" ]; then take_down "${holder##*/}"; fi
	done
}

for mount in $mounts; do
	echo "unmounting $mount, left by an interrupted run"
	umount -R "$mount" || : # gone with another one; if not, wipefs will find the disk busy
done
for swap in $swaps; do
	echo "ending swap on $swap"
	swapoff "$swap"
done
release "$disk"
if [ -n "$mapping" ] && [ -e "/dev/mapper/$mapping" ]; then
	refuse "/dev/mapper/$mapping is in use for another disk; close that first"
fi

# The kernel refuses to read the table again while anything uses the disk, also
# what lsblk does not show, such as a ZFS pool. So far nothing was written.
blockdev --rereadpt "$device" || refuse "$device is still in use by something; restart the installer if you don't know by what"

set --
for at in /sys/class/block/"$disk"/"$disk"*; do
	if [ -e "$at/partition" ]; then set -- "$@" "/dev/${at##*/}"; fi
done
echo "wiping old signatures on $device${*:+ and $*}"
wipefs --all --quiet "$@" "$device"
