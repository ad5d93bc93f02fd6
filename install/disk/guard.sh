
# Refuse a disk that the running system needs. What is mounted below /mnt may be
# left by an interrupted run, if the disk has our partitions.
first "$sys/block/$disk/ro"
if [ "$line" = 1 ]; then refuse "$device is read-only"; fi
first /proc/cmdline
cmdline=$line
ours=no mounts='' swaps=''
rows=$(lsblk -nPo KNAME,LABEL,MOUNTPOINTS "$device" 2>/dev/null ||
	lsblk -nPo KNAME,LABEL,MOUNTPOINT "$device") # util-linux before 2.37
case $(sfdisk --dump "$device" 2>/dev/null || :) in *' name="nixctl-root"'*) ours=yes ;; esac
while read -r row; do
	name=${row#KNAME=\"} name=${name%%\"*}
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
