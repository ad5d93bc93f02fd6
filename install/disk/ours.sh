
# Labels are no proof: another disk may have the same ones.
case $(sfdisk --dump "$device") in
*"label-id: $table"*) ;;
*) refuse "$device does not have the partitions of this plan; prepare it first" ;;
esac
