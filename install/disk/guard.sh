
# Refuse a disk that the running system needs. What is mounted below /mnt may be
# left by an interrupted run, if the disk has our partitions.
first "$sys/block/$disk/ro"
if [ "$line" = 1 ]; then refuse "$device is read-only"; fi
first /proc/cmdline
cmdline=$line
ours=no names=' ' mounts='' swaps=''
rows=$(lsblk -nPo KNAME,LABEL,MOUNTPOINTS "$device" 2>/dev/null ||
	lsblk -nPo KNAME,LABEL,MOUNTPOINT "$device") # util-linux before 2.37
case $(sfdisk --dump "$device" 2>/dev/null || :) in *' name="nixctl-root"'*) ours=yes ;; esac
while read -r row; do
	name=${row#KNAME=\"} name=${name%%\"*} names="$names/dev/$name "
	label=${row#*\" LABEL=\"} label=${label%%\"*}
	mounted=${row##*=\"} mounted=${mounted%\"}
	if [ -n "$label" ]; then
		case " $cmdline " in *" root=LABEL=$label "* | *" root=/dev/disk/by-label/$label "*)
			refuse "$device is the medium that this system was booted from" ;;
		esac
	fi
	while [ -n "$mounted" ]; do # several are separated by an escaped newline
		mount=${mounted%%\\x0a*}
		case $mounted in *\\x0a*) mounted=${mounted#*\\x0a} ;; *) mounted= ;; esac
		case $ours,$mount in
		*,'[SWAP]') swaps="$swaps /dev/$name" ;;
		yes,/mnt | yes,/mnt/*) mounts="$mount $mounts" ;;
		*) refuse "$name on $device is mounted at $mount" ;;
		esac
	done
done <<EOF
$rows
EOF

# What else is mounted at /mnt would be in the way of the new system, or end up in
# its hardware-configuration.nix. What is below our own /mnt goes with it.
while read -r source target rest; do
	case $target in
	/mnt) ;;
	/mnt/*) case " $mounts" in *' /mnt '*) continue ;; esac ;;
	*) continue ;;
	esac
	at=$source
	case $source in /dev/*) at=$(readlink -f "$source" || :) ;; esac
	case $names in
	*" $at "*) ;;
	*) refuse "$source is mounted at $target, where the new system is to be; unmount it first" ;;
	esac
done </proc/self/mounts
