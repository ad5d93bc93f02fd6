# One store path of $KiB KiB that looks like data and is the same on every machine.
b=$busybox/bin/busybox
$b mkdir -p $out
n=0
while [ $n -lt $((KiB / 64)) ]; do
  $b printf '%s-%s\n' "$salt" "$n" | $b sha512sum
  $b dd if=/dev/zero bs=65536 count=1 2>/dev/null | $b tr '\0' $((n % 10))
  n=$((n + 1))
done >$out/data
