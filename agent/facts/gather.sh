# Prints what this machine is made of, for nixctl. It reads and changes nothing.
#
# Sections begin with "#= name". Every process costs 10 to 30 ms on a slow
# machine, so small files are read by one grep (as "path:line") and the shell
# does the rest itself.
export LC_ALL=C
PATH=$PATH:/run/current-system/sw/bin:/usr/sbin:/usr/bin:/sbin:/bin

echo '#= files'
cd /sys/block || exit 1
grep -Hs '' \
	/etc/os-release /etc/machine-id /run/current-system/nixos-version \
	/proc/cmdline /proc/meminfo /proc/swaps \
	/proc/sys/kernel/hostname /proc/sys/kernel/osrelease /proc/sys/kernel/random/boot_id \
	/sys/devices/system/cpu/online /sys/class/tpm/tpm0/tpm_version_major \
	/sys/class/dmi/id/sys_vendor /sys/class/dmi/id/product_name \
	/sys/class/dmi/id/product_serial /sys/class/dmi/id/product_uuid \
	/sys/class/net/*/type /sys/class/net/*/address /sys/class/net/*/carrier \
	/sys/block/*/diskseq /sys/block/*/serial /sys/block/*/wwid /sys/block/*/device/serial \
	/sys/block/*/device/wwid /sys/block/*/device/model

echo '#= machine'
uname -m

echo '#= clock'
date -u +%s

echo '#= firmware'
if [ -d /sys/firmware/efi ]; then
	echo uefi
	# Four bytes of attributes, then one that is 1 if Secure Boot is on (UEFI 2.10, 3.3).
	secure=/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c
	if [ -e $secure ]; then od -An -tu1 $secure; fi
else
	echo bios
fi

# Boards without DMI name themselves in the device tree, with a NUL at the end.
tree=/sys/firmware/devicetree/base
if [ -e $tree/model ]; then
	echo '#= model'
	tr '\0' '\n' <$tree/model
	echo '#= serial'
	if [ -e $tree/serial-number ]; then tr '\0' '\n' <$tree/serial-number; fi
fi

# SCSI disks tell their serial in a binary page: four bytes of head, then text.
echo '#= pages'
for page in */device/vpd_pg80; do
	if [ -r "$page" ]; then echo "$page:$(tail -c +5 "$page" | tr -cd '\040-\176')"; fi
done

echo '#= store'
df -kP /nix/store 2>/dev/null || df -kP /

echo '#= addresses'
ip -o addr 2>/dev/null

echo '#= links'
ls -l /dev/disk/by-id /dev/disk/by-path 2>/dev/null

# Without udev lsblk does not look at what is on the disks.
echo '#= blkid'
if ! [ -e /run/udev/control ]; then blkid -c /dev/null -o export; fi

# MOUNTPOINTS came with util-linux 2.37; before, only one of them is told.
echo '#= lsblk'
columns=NAME,KNAME,PATH,TYPE,SIZE,LOG-SEC,ROTA,TRAN,RM,RO,MODEL,SERIAL,WWN,PTTYPE,FSTYPE,LABEL,PARTLABEL,UUID,PARTUUID
lsblk -J -b -o $columns,MOUNTPOINTS 2>/dev/null || lsblk -J -b -o $columns,MOUNTPOINT

echo '#= end'
