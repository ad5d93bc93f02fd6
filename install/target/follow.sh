# Starts a job unless that was done, and follows its log until it has ended.
# usage: sh -c FOLLOW nixctl SYSTEMD DIR STEP UNIT OFFSET SIZE PATIENCE NAME LAUNCH
# stdin: the job's script of SIZE bytes and a line "end"; SIZE is "-" to follow only.
# stdout: the log from byte OFFSET on. stderr: "following", and last a verdict.
#
# A program costs 85 ms on a slow machine (measured), so what the shell can do itself
# it does: a job costs this shell, head, systemd-run, tail, and the unit's three
# shells.
systemd=$1 dir=$2 job=$2/$3 unit=$4 offset=$5 size=$6 patience=$7 launcher=$2/$8 launch=$9
umask 077
script=$job.$$.sh # kept by the follower whose unit runs it; nobody else writes to it

verdict() {
	printf 'verdict: %s\n' "$*" >&2
	exit 0
}

drop() {
	rm -f "$script"
	verdict "$@"
}

# look reports whether the job was begun, and sets what began it.
look() {
	pid='' ran=''
	[ ! -s "$job.ran" ] || read -r pid ran <"$job.ran"
	[ -n "$pid" ] || [ -s "$job.status" ]
}

# whole reports whether all of stdin came: after a lost link it just ends.
whole() { read -r end && [ "$end" = end ]; }

# receive takes the script. head reads no byte more than it is to.
receive() {
	[ -d "$dir" ] || mkdir -p "$dir" || verdict error "$dir can't be made"
	[ ! -e "$script" ] || verdict again # of a follower before a long time
	head -c "$size" >"$script" || drop error "no room for the script in $dir"
	whole || drop again
}

# start returns once the job has begun. Whoever comes second finds the unit.
start() {
	[ -d "$systemd" ] || drop nosystemd
	: >>"$job.log"
	if [ ! -e "$launcher" ]; then
		printf '%s' "$launch" >"$launcher.$$" && mv -f "$launcher.$$" "$launcher" || drop error "no room in $dir"
	fi
	problem=$(systemd-run --quiet --collect --unit="$unit" --property=IgnoreSIGPIPE=no \
		--property=ExecStopPost="/bin/sh $launcher ended $job" \
		--setenv=PATH="$PATH" --setenv=HOME="$HOME" /bin/sh "$launcher" run "$job" "$script" 2>&1) && problem=
	tries=0
	until look; do
		tries=$((tries + 1))
		if [ $tries -gt 200 ] || { [ -n "$problem" ] && [ $tries -gt 20 ]; }; then
			drop error "$unit did not start: $problem"
		fi
		sleep 0.05
	done
	if [ "$ran" != "$script" ]; then
		[ -z "$ran" ] || cmp -s "$script" "$ran" || drop other
		rm -f "$script"
	fi
}

if [ "$size" = - ]; then
	look || verdict gone
elif look; then
	head -c "$size" | cmp -s - "$ran"
	same=$?
	whole || verdict again
	[ $same -eq 0 ] || [ -z "$ran" ] || verdict other
else
	receive
	start
fi
echo following >&2
if [ -s "$job.status" ]; then
	tail -c +$((offset + 1)) "$job.log"
else
	# tail ends with the unit's shell, after the last byte of the log. A job that
	# runs keeps its process ID.
	tail -c +$((offset + 1)) -s 0.1 -f --pid="$pid" "$job.log"
fi || verdict again
# The result is there, unless the job was killed: systemd records that a moment later.
tries=0
until [ -s "$job.status" ]; do
	tries=$((tries + 1))
	[ $tries -le "$patience" ] || verdict vanished
	sleep 0.05
done
read -r result <"$job.status"
verdict "$result"
