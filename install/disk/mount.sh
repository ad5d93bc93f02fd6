
# mounted DIRECTORY: sets line to the device that is mounted there, or to nothing.
mounted() {
	line=
	while read -r source target rest; do
		if [ "$target" = "$1" ]; then line=$source; fi
	done </proc/self/mounts
}

# attach DEVICE DIRECTORY TYPE OPTIONS: mounts it, unless that was done before.
attach() {
	mounted "$2"
	case $line in
	"$1") echo "$2 is mounted already" ;;
	'')
		echo "mounting $1 at $2"
		mount -t "$3" -o "X-mount.mkdir,$4" "$1" "$2"
		;;
	*) refuse "$line is mounted at $2; unmount it first" ;;
	esac
}

# on PARTITION MAPPING: whether that mapping is open and lies on the partition.
on() {
	for at in /sys/class/block/"${1##*/}"/holders/*/dm/name; do
		first "$at"
		if [ "$line" = "$2" ]; then return 0; fi
	done
	return 1
}

# swapping DEVICE: whether it is in use as swap.
swapping() {
	while read -r device_in_use rest; do
		if [ "$device_in_use" = "$1" ]; then return 0; fi
	done </proc/swaps
	return 1
}
