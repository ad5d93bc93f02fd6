
# Nobody said that anything may be destroyed, so there must be nothing, now.
keep() { refuse "$device holds $*; to destroy that, say --wipe"; }
found=$(wipefs --no-act --noheadings --output TYPE "$device") || refuse "$device can't be searched for content"
if [ -n "$found" ]; then keep $found; fi # unquoted: a line each
for at in "$sys/block/$disk/$disk"* "$sys/block/$disk"/holders/*; do
	if [ -e "$at" ]; then keep "${at##*/}"; fi
done
# A raw database or plain dm-crypt has no signature. cmp is of GNU diffutils.
mebibyte=1048576
cmp -n $mebibyte "$device" /dev/zero >/dev/null &&
	cmp -n $mebibyte -i $((sectors * 512 - mebibyte)):0 "$device" /dev/zero >/dev/null ||
	keep "data of unknown kind"
