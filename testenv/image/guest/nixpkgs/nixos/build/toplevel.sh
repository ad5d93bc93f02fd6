# Builds the folder that /run/current-system points to.
b=$busybox/bin/busybox
$b mkdir -p $out/bin $out/sw/bin $out/sw/lib $out/etc/ssh/authorized_keys.d $out/specialisation
$b ln -s $kernel/bzImage $out/kernel
if [ -n "$luksInitrd" ]; then
  $b cat $initrd/initrd $luksInitrd >$out/initrd
else
  $b ln -s $initrd/initrd $out/initrd
fi
printf '%s' "$kernelParams" >$out/kernel-params
printf '%s' "$version" >$out/nixos-version
printf '%s' x86_64-linux >$out/system
printf '%s' 1 >$out/init-interface-version

# bash, mount and friends win over busybox's
for a in $($b --list); do $b ln -s $busybox/bin/busybox $out/sw/bin/$a; done
for f in $userland/bin/*; do $b ln -sfn $f $out/sw/bin/${f##*/}; done
$b ln -sfn $userland/lib $out/sw/lib/x86_64-linux-gnu

for f in $src/*; do
  n=${f##*/}
  case $n in
  init | activate) to=$out/$n ;;
  switch-to-configuration) to=$out/bin/$n ;;
  sshd_config) to=$out/etc/ssh/$n ;;
  *) to=$out/sw/bin/$n ;;
  esac
  $b rm -f $to
  $b sed -e "s|@busybox@|$busybox|g" -e "s|@out@|$out|g" -e "s|@userland@|$userland|g" -e "s|@loader@|$loader|g" \
    -e "s|@bootloader@|$bootloader|g" -e "s|@hostName@|$hostName|g" -e "s|@grubDevice@|$grubDevice|g" \
    -e "s|@sshd@|$sshd|g" -e "s|@sshPort@|$sshPort|g" -e "s|@rootLogin@|$rootLogin|g" $f >$to
  $b chmod 555 $to
done
printf 'root:x:0:0:root:/root:%s/bin/bash\nsshd:x:74:74::/var/empty:/bin/false\nnobody:x:65534:65534::/:/bin/false\n' "$userland" >$out/etc/passwd
printf 'root:x:0:\nsshd:x:74:\nnixbld:x:30000:\nnogroup:x:65534:\n' >$out/etc/group
printf 'root:*:1::::::\nsshd:!:1::::::\n' >$out/etc/shadow
printf '%s\n' "$hostName" >$out/etc/hostname
printf '%s\n' "$fstab" >$out/etc/fstab
printf '%s\n' "$authorizedKeys" >$out/etc/ssh/authorized_keys.d/root
printf 'ID=nixos\nNAME=NixOS\nVERSION_ID="25.05"\nPRETTY_NAME="NixOS-shaped test system"\n' >$out/etc/os-release
[ -z "$filler" ] || {
  $b mkdir $out/filler
  i=0
  for f in $filler; do
    $b ln -s $f $out/filler/$i
    i=$((i + 1))
  done
}
