# What a job's unit runs: the job's script, at most once, with its result recorded.
# usage: launch.sh run|ended JOB
job=$2
case $1 in
run)
	# The lock is held as long as the job runs: the kernel releases it whatever
	# ends this shell. The directory is made once, so the script runs once.
	exec 9>>"$job.lock" && flock -n 9 && mkdir "$job.ran" || exit 0
	sh "$job.sh" >>"$job.log" 2>&1 </dev/null 9>&-
	result="exit $?"
	;;
ended)
	# ExecStopPost: also after a kill, with the reason, systemd.exec(5).
	[ ! -e "$job.status" ] || exit 0
	result="killed ${SERVICE_RESULT:-unknown}"
	;;
esac
umask 077
echo "$result" >"$job.status.new" && mv -f "$job.status.new" "$job.status"
