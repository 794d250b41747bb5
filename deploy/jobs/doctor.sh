# shellcheck shell=bash
# doctor.sh: the nodes of a job examined; sourced after replica.sh. `fulger doctor` with the flags FULGER_DOCTOR in place of a server,
# with the same ranks; its code is the job's. FULGER_REPORT.html has the matrices as heat maps. Without FULGER_LAYOUT the memory
# of the nodes is not held against what a layout needs.
# shellcheck disable=SC2086
"$fulger" doctor --model "$FULGER_MODEL" ${FULGER_LAYOUT:-} --wait-for-workers --launch-timeout "${FULGER_START:-120}" \
  --control "0.0.0.0:$((port + 1))" --listen "${FULGER_LISTEN:-0.0.0.0}:$port" ${FULGER_REPORT:+--html "$FULGER_REPORT.html"} \
  ${FULGER_DOCTOR:-} &
coordinator=$!
start_ranks
code=0
wait_coordinator || code=$?
end_ranks
exit "$code"
