# shellcheck shell=bash
# serve.sh: a server as a job, until the job ends; sourced after replica.sh. The endpoint is the line "fulger job: ready".
trap 'ending=yes; echo "fulger job: told to end, draining"; kill -TERM "$coordinator" 2>/dev/null || true' TERM USR1
start_replica --request-timeout 0
code=0
if wait_ready; then
  echo "fulger job: ready at http://$host:$port (job $job_id, $job_ranks ranks on $job_nodes)"
  supervise || code=$?
  end_ranks
else
  [ -n "$ending" ] || echo "fulger job: it did not become ready; the reason is above" >&2
  stop_replica || code=$?
  [ -n "$ending" ] || code=1
fi
[ "$code" -ne 0 ] || echo "fulger job: drained"
exit "$code"
