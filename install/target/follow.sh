# Starts a job unless that was done, and follows its log until it has ended.
# usage: sh -c FOLLOW nixctl SYSTEMD DIR STEP UNIT OFFSET SIZE LAUNCH
# stdin: the job's script of SIZE bytes; SIZE is "-" to follow only.
# stdout: the log from byte OFFSET on. stderr: "following", and last a verdict.
systemd=$1 dir=$2 job=$2/$3 unit=$4 offset=$5 size=$6 launch=$7
umask 077

verdict() {
	printf 'verdict: %s\n' "$*" >&2
	exit 0
}

# receive takes the script whole or not at all: after a lost link stdin just ends.
receive() {
	mkdir -p "$dir" && cat >"$job.sh.$$" || verdict error "no room for the script in $dir"
	if [ "$(wc -c <"$job.sh.$$")" -ne "$size" ]; then
		rm -f "$job.sh.$$"
		verdict again
	fi
	if [ ! -e "$job.ran" ]; then
		mv -f "$job.sh.$$" "$job.sh"
		return
	fi
	cmp -s "$job.sh.$$" "$job.sh"
	same=$?
	rm -f "$job.sh.$$"
	[ $same -eq 0 ] || verdict other
}

# start returns once the job has the lock. Whoever comes second finds the unit.
start() {
	[ -d "$systemd" ] || verdict nosystemd
	: >>"$job.log"
	printf '%s' "$launch" >"$job.launch.$$" && mv -f "$job.launch.$$" "$job.launch"
	problem=$(systemd-run --quiet --collect --unit="$unit" --property=IgnoreSIGPIPE=no \
		--property=ExecStopPost="/bin/sh $job.launch ended $job" \
		--setenv=PATH="$PATH" --setenv=HOME="$HOME" /bin/sh "$job.launch" run "$job" 2>&1) && problem=
	tries=0
	until [ -e "$job.ran" ] || [ -e "$job.status" ]; do
		tries=$((tries + 1))
		if [ $tries -gt 200 ] || { [ -n "$problem" ] && [ $tries -gt 20 ]; }; then
			verdict error "$unit did not start: $problem"
		fi
		sleep 0.05
	done
}

if [ "$size" != - ]; then
	receive
	[ -e "$job.ran" ] || [ -e "$job.status" ] || start
fi
[ -e "$job.ran" ] || [ -e "$job.status" ] || verdict gone
echo following >&2
if [ ! -e "$job.status" ]; then
	# Waits for the lock's release, and so tail ends with the job.
	flock -s "$job.lock" true </dev/null >/dev/null 2>&1 &
	tail -c +$((offset + 1)) -s 0.1 -f --pid=$! "$job.log"
	flock -s -n "$job.lock" true || verdict again
else
	tail -c +$((offset + 1)) "$job.log"
fi
# A job that was killed has its result recorded by systemd a moment later.
tries=0
until [ -e "$job.status" ]; do
	tries=$((tries + 1))
	[ $tries -le 100 ] || verdict vanished
	sleep 0.05
done
verdict "$(cat "$job.status")" size "$(wc -c <"$job.log")"
