# What a job's unit runs: the job's script, at most once, with its result recorded.
# usage: launch.sh run JOB SCRIPT | ended JOB
job=$2
case $1 in
run)
	# With -C the file is made by one shell only, so the script runs once. It tells
	# the shell to wait for, and the script.
	set -C
	echo "$$ $3" >"$job.ran" || exit 0
	set +C
	sh "$3" >>"$job.log" 2>&1 </dev/null
	result="exit $?"
	;;
ended)
	# ExecStopPost: also after a kill, with the reason, systemd.exec(5).
	[ ! -s "$job.status" ] || exit 0
	result="killed ${SERVICE_RESULT:-unknown}"
	;;
esac
umask 077
echo "$result" >"$job.status" # in one write: it is there as soon as it is not empty
