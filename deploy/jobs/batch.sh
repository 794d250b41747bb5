# shellcheck shell=bash
# batch.sh: a file of requests as a job (an offline batch); sourced after replica.sh. A server that only this node can reach
# answers FULGER_REQUESTS into FULGER_ANSWERS, and ends.
[ -f "${FULGER_REQUESTS:-}" ] || fulger_fail "FULGER_REQUESTS: no file ${FULGER_REQUESTS:-}"
[ -n "${FULGER_ANSWERS:-}" ] || fulger_fail "FULGER_ANSWERS is not set"
FULGER_LISTEN=127.0.0.1 FULGER_TARGETS=''
start_replica --jobs-db "$FULGER_ANSWERS.db"
code=1
if wait_ready; then
  code=0
  "$deploy/examples/batch.sh" "http://127.0.0.1:$port" "$FULGER_REQUESTS" >"$FULGER_ANSWERS" || code=$?
fi
stop_replica || code=$?
[ "$code" -ne 0 ] || echo "fulger job: $(wc -l <"$FULGER_ANSWERS") answers in $FULGER_ANSWERS"
exit "$code"
