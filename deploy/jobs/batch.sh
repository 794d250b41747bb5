# shellcheck shell=bash
# batch.sh: a file of requests as a job (an offline batch); sourced after replica.sh. A server that only this node can reach
# answers FULGER_REQUESTS into FULGER_ANSWERS, and ends. A job that comes to its end before goes on in the next one with the same
# FULGER_ANSWERS, lines amid their answers as well.
[ -f "${FULGER_REQUESTS:-}" ] || fulger_fail "FULGER_REQUESTS: no file ${FULGER_REQUESTS:-}"
[ -n "${FULGER_ANSWERS:-}" ] || fulger_fail "FULGER_ANSWERS is not set"
if [ -f "$FULGER_ANSWERS" ]; then
  echo "fulger job: $FULGER_ANSWERS is there already: nothing to do"
  exit 0
fi
FULGER_LISTEN=127.0.0.1 FULGER_TARGETS='' FULGER_STATE=${FULGER_STATE:-$FULGER_ANSWERS.state}
start_replica --jobs-db "$FULGER_ANSWERS.db"
code=1
if wait_ready; then
  code=0
  "$deploy/examples/batch.sh" "http://127.0.0.1:$port" "$FULGER_REQUESTS" "$FULGER_ANSWERS.batch" >"$FULGER_ANSWERS.part" || code=$?
fi
ended=no
alive "$coordinator" || ended=yes
stop_replica || code=$?
if [ "$code" -eq 0 ]; then
  mv "$FULGER_ANSWERS.part" "$FULGER_ANSWERS"
  rm -f "$FULGER_ANSWERS.batch"
  rmdir --ignore-fail-on-non-empty "$FULGER_STATE"
  echo "fulger job: $(wc -l <"$FULGER_ANSWERS") answers in $FULGER_ANSWERS"
elif [ "$ended" = yes ] && [ -f "$FULGER_ANSWERS.batch" ]; then
  echo "fulger job: the job's time ended first: the next one with FULGER_ANSWERS=$FULGER_ANSWERS goes on" >&2
fi
exit "$code"
