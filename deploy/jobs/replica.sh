# shellcheck shell=bash
# replica.sh: what every job does, whatever the scheduler; sourced by slurm/job.sh and pbs/job.sh, which say before:
#   job_id, job_ranks, job_nodes   the job's number, how many ranks it has, where they are (for the log)
#   job_threads, job_end           compute threads of a CPU rank; when the job ends, seconds since 1970 (empty: not known)
#   launch_ranks COMMAND...        runs it once per rank, in the background; its process in $ranks
#
# Variables of the submitter:
#   FULGER_MODEL     checkpoint folder, on a file system that every node sees        (required)
#   FULGER_LAYOUT    flags that `fulger plan` prints: "--tp 8 --pp 2 ..."            (required)
#   FULGER_BIN       folder of fulger and fulger-worker                              (default: those in PATH)
#   FULGER_DEVICE    cpu, or cuda: each rank takes the GPU of its place on the node  (default: cpu)
#   FULGER_PORT      HTTP port; the control port is the next one                     (default: 8000)
#   FULGER_HOST      address of the first node that the others can dial              (default: its name, or its first address)
#   FULGER_LISTEN    address that the API listens on                                 (default: 0.0.0.0)
#   FULGER_DRAIN     seconds that running requests get at the end                    (default: 60)
#   FULGER_STATE     folder where what still runs is saved, and goes on in the next job (default: none; batch: FULGER_ANSWERS.state)
#   FULGER_START     seconds until a first rank must have joined                     (default: 300)
#   FULGER_RESTARTS  how often ranks that died are started again                     (default: 5)
#   FULGER_TARGETS   folder that Prometheus reads (monitoring/README.md)             (default: none)
#   FULGER_LABELS    more labels for it: "team=vision ..."
fulger_fail() { echo "fulger job: $*" >&2; exit 2; }
[ -n "${FULGER_MODEL:-}" ] || fulger_fail "FULGER_MODEL is not set: FULGER_MODEL=DIR FULGER_LAYOUT=\"--tp 8\" sbatch (or qsub -V) ..."
[ -f "$FULGER_MODEL/config.json" ] || fulger_fail "$FULGER_MODEL/config.json is not there, seen from $(hostname)"
fulger=${FULGER_BIN:+$FULGER_BIN/}fulger
worker=${FULGER_BIN:+$FULGER_BIN/}fulger-worker
command -v "$fulger" >/dev/null || fulger_fail "no program $fulger: set FULGER_BIN"
port=${FULGER_PORT:-8000}
coordinator='' ranks='' ending='' target=''

# A host's own name is 127.0.1.1 to itself on many; other nodes need more.
own_address() {
  case $(getent ahostsv4 "$(hostname)" | awk 'NR == 1 {print $1}') in
    '' | 127.*) hostname -I | awk '{print $1}' ;;
    *) hostname ;;
  esac
}
host=${FULGER_HOST:-$(own_address)}

# A rank that waits gives its core away; without it many ranks of a node cost each other a hundredfold.
export OMPI_MCA_mpi_yield_when_idle=1

start_ranks() {
  local command=("$worker" --coordinator "$host:$((port + 1))" --device "${FULGER_DEVICE:-cpu}")
  [ "${FULGER_DEVICE:-cpu}" != cpu ] || command+=(--threads "$job_threads")
  launch_ranks "${command[@]}"
}

start_replica() {
  [ -n "${FULGER_LAYOUT:-}" ] || fulger_fail "FULGER_LAYOUT is not set: fulger plan prints the flags"
  # shellcheck disable=SC2086
  "$fulger" serve --model "$FULGER_MODEL" $FULGER_LAYOUT --device "${FULGER_DEVICE:-cpu}" --wait-for-workers --launch-timeout "${FULGER_START:-300}" \
    --control "0.0.0.0:$((port + 1))" --listen "${FULGER_LISTEN:-0.0.0.0}:$port" --drain-timeout "${FULGER_DRAIN:-60}" \
    ${job_end:+--end-time "$job_end"} ${FULGER_STATE:+--state-dir "$FULGER_STATE"} "$@" &
  coordinator=$!
  start_ranks
}

alive() { kill -0 "$1" 2>/dev/null; }

# A second, which a trapped signal may end.
nap() {
  sleep 1 &
  wait $! || true
}

# 0 when it can generate; 1 when the coordinator or the ranks ended first.
wait_ready() {
  until python3 - "http://127.0.0.1:$port/health/ready" <<'PY'
import sys, urllib.request
try:
    sys.exit(0 if urllib.request.urlopen(sys.argv[1], timeout=5).status == 200 else 1)
except OSError:
    sys.exit(1)
PY
  do
    alive "$coordinator" && alive "$ranks" || return 1
    nap
  done
  [ -z "${FULGER_TARGETS:-}" ] && return
  # shellcheck disable=SC2086
  "$deploy/../monitoring/prometheus/target.sh" add "$FULGER_TARGETS" "$host:$port" ${FULGER_LABELS:-} && target=$FULGER_TARGETS
}
forget_target() { [ -z "$target" ] || "$deploy/../monitoring/prometheus/target.sh" remove "$target"; }
trap forget_target EXIT

# Until the coordinator ends; its exit code. Ranks that die meanwhile are started again, and the requests go on.
supervise() {
  local code restarts=0
  while alive "$coordinator"; do
    if ! alive "$ranks" && [ -z "$ending" ]; then
      code=0
      wait "$ranks" || code=$?
      [ "$code" -ne 0 ] || break  # told to end
      if [ "$restarts" -ge "${FULGER_RESTARTS:-5}" ]; then
        echo "fulger job: the ranks ended $((restarts + 1)) times; the reasons are above" >&2
        kill -TERM "$coordinator"
        wait_coordinator || true
        return 1
      fi
      restarts=$((restarts + 1))
      echo "fulger job: the ranks ended with $code; starting them again ($restarts)"
      start_ranks
    fi
    nap
  done
  wait_coordinator
}

# Waits for the coordinator through trapped signals, each of which ends a wait; its exit code.
wait_coordinator() {
  local code=0 last=0
  wait "$coordinator" || code=$?
  while [ "$code" -gt 128 ] && alive "$coordinator"; do
    code=0
    wait "$coordinator" || code=$?
  done
  if [ "$code" -gt 128 ]; then
    wait "$coordinator" || last=$?
    [ "$last" -eq 127 ] || code=$last  # 127: that was its code
  fi
  return "$code"
}

# The coordinator drains and then ends the ranks itself. Its exit code is the job's. Ranks that hang do not keep the job.
stop_replica() {
  local code=0
  kill -TERM "$coordinator" 2>/dev/null || true
  wait_coordinator || code=$?
  # One that failed told nobody to end.
  [ "$code" -eq 0 ] || kill -TERM "$ranks" 2>/dev/null || true
  end_ranks
  return "$code"
}
end_ranks() {
  local left=30
  while alive "$ranks" && [ "$left" -gt 0 ]; do
    nap
    left=$((left - 1))
  done
  alive "$ranks" && kill -KILL "$ranks" 2>/dev/null
  wait "$ranks" 2>/dev/null || true
}
