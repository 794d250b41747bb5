# shellcheck shell=bash
# bench.sh: a benchmark as a job; sourced after replica.sh. `fulger bench serve` with the flags FULGER_BENCH against a server of
# its own; FULGER_REPORT.json and FULGER_REPORT.html stay.
#
# In a job array, FULGER_SWEEP is a file with a layout per line, "--tp 8 --pp 2" or with flags of the bench of its own,
# "--tp 8 | --arrivals closed:16": task N takes line N (the first is 1) and writes FULGER_REPORT-N.
[ -n "${FULGER_REPORT:-}" ] || fulger_fail "FULGER_REPORT is not set: where the report goes, without .json"
bench=${FULGER_BENCH:---arrivals closed:8 --requests 64}
task=${SLURM_ARRAY_TASK_ID:-${PBS_ARRAY_INDEX:-}}
if [ -n "${FULGER_SWEEP:-}" ]; then
  [ -n "$task" ] || fulger_fail "FULGER_SWEEP needs a job array: sbatch --array=1-N, qsub -J 1-N"
  line=$(sed -n "${task}p" "$FULGER_SWEEP")
  [ -n "$line" ] || fulger_fail "$FULGER_SWEEP has no line $task"
  FULGER_LAYOUT=${line%%|*}
  [ "$line" = "${line#*|}" ] || bench=${line#*|}
  FULGER_REPORT=$FULGER_REPORT-$task
  port=$((port + 2 * task))  # tasks may share a node
fi
FULGER_LISTEN=127.0.0.1
start_replica --request-timeout 0
code=1
if wait_ready; then
  code=0
  # shellcheck disable=SC2086
  "$fulger" bench serve --url "http://127.0.0.1:$port" $bench --json "$FULGER_REPORT.json" --html "$FULGER_REPORT.html" || code=$?
fi
stop_replica || code=$?
[ "$code" -ne 0 ] || echo "fulger job: the report of $FULGER_LAYOUT is $FULGER_REPORT.json"
exit "$code"
