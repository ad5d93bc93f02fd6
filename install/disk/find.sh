
refuse() {
	echo "refused: $*" >&2
	exit 65
}

# first FILE: sets line to its first line, or to nothing.
first() {
	line=
	if [ -r "$1" ]; then read -r line <"$1" || :; fi
}

# told NAME: sets line to what lsblk tells of the disk.
told() {
	line=
	while read -r row; do
		case $row in "KNAME=\"$1\" "*) line=$row ;; esac
	done <<-EOF
		$rows
	EOF
}

# The kernel has a serial at one of three places, or only udev knows it.
has_serial() {
	for file in serial device/serial; do
		first "$sys/block/$1/$file"
		if [ "$line" = "$serial" ]; then return 0; fi
	done
	if [ -r "$sys/block/$1/device/vpd_pg80" ]; then # SCSI: four bytes of head, then text
		read -r line <<-EOF
			$(tail -c +5 "$sys/block/$1/device/vpd_pg80" | tr -cd '\040-\176')
		EOF
		if [ "$line" = "$serial" ]; then return 0; fi
	fi
	told "$1"
	case $line in *" SERIAL=\"$serial\" "*) return 0 ;; esac
	return 1
}

has_wwn() {
	for file in wwid device/wwid; do
		first "$sys/block/$1/$file"
		if [ "$line" = "$wwn" ] || [ "$line" = "naa.${wwn#0x}" ]; then return 0; fi
	done
	told "$1"
	case $line in *" WWN=\"$wwn\"") return 0 ;; esac
	return 1
}

# matches NAME: whether the disk has the size, serial and WWN that were planned for.
matches() {
	first "$sys/block/$1/hidden" # a path of a multipath NVMe disk, not the disk
	if [ "$line" = 1 ]; then return 1; fi
	first "$sys/block/$1/size"
	if [ "$line" != "$sectors" ]; then return 1; fi
	if [ -n "$serial" ] && ! has_serial "$1"; then return 1; fi
	if [ -n "$wwn" ] && ! has_wwn "$1"; then return 1; fi
}

# The disk is looked for by what it is, since names such as sda move when disks
# come and go.
disk=
if [ -n "$serial$wwn" ]; then
	rows=$(lsblk -dnPo KNAME,SERIAL,WWN || :)
	for at in "$sys"/block/*; do
		matches "${at##*/}" || continue
		if [ -n "$disk" ]; then refuse "$disk and ${at##*/} are both $title"; fi
		disk=${at##*/}
	done
	if [ -z "$disk" ]; then refuse "there is no $title here now"; fi
else
	# It has neither serial nor WWN. Its place, its size and the number that the
	# kernel gave it when it appeared must do.
	disk=$(readlink -f "$path") || refuse "there is no $path here now"
	disk=${disk##*/}
	if ! matches "$disk"; then refuse "$path is another disk than $title now"; fi
	first "$sys/block/$disk/diskseq"
	if [ "$sequence" != 0 ] && [ "$line" != "$sequence" ]; then
		refuse "$path was changed for another disk since the plan was made"
	fi
fi
device=/dev/$disk
if ! [ -b "$device" ]; then refuse "$device is no block device"; fi
case $disk in # the kernel's rule for the names of partitions
*[0-9]) part=${device}p ;;
*) part=$device ;;
esac
echo "$title is $device"
