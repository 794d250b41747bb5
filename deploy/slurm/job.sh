# shellcheck shell=bash
# job.sh: what every job here does; sourced by the scripts beside it. Starts the coordinator on this node and the ranks on
# all nodes of the job, by srun or by mpirun; ends both.
#
#   FULGER_MODEL    checkpoint folder, on a file system that every node sees         (required)
#   FULGER_LAYOUT   flags that `fulger plan` prints: "--tp 8 --pp 2 ..."             (required)
#   FULGER_BIN      folder of fulger and fulger-worker                               (default: those in PATH)
#   FULGER_LAUNCH   srun or mpirun                                                   (default: srun)
#   FULGER_DEVICE   cpu, or cuda: each rank takes the GPU of its place on the node   (default: cpu)
#   FULGER_PORT     HTTP port; the control port is the next one                      (default: 8000)
#   FULGER_LISTEN   address that the API listens on                                  (default: 0.0.0.0)
#   FULGER_DRAIN    seconds that running requests get at the end                     (default: 60)
fulger_fail() { echo "fulger job: $*" >&2; exit 2; }
[ -n "${SLURM_JOB_ID:-}" ] || fulger_fail "not inside a Slurm job: sbatch $0"
[ -n "${FULGER_MODEL:-}" ] || fulger_fail "FULGER_MODEL is not set: sbatch --export=ALL,FULGER_MODEL=DIR,..."
[ -n "${FULGER_LAYOUT:-}" ] || fulger_fail "FULGER_LAYOUT is not set: fulger plan prints the flags"
[ -f "$FULGER_MODEL/config.json" ] || fulger_fail "$FULGER_MODEL/config.json is not there, seen from $(hostname)"
fulger=${FULGER_BIN:+$FULGER_BIN/}fulger
worker=${FULGER_BIN:+$FULGER_BIN/}fulger-worker
command -v "$fulger" >/dev/null || fulger_fail "no program $fulger: set FULGER_BIN"
port=${FULGER_PORT:-8000}
host=$(hostname)
coordinator='' ranks=''

# A rank that waits gives its core away; without it many ranks of a node cost each other a hundredfold.
export OMPI_MCA_mpi_yield_when_idle=1

start_replica() {
  # shellcheck disable=SC2086
  "$fulger" serve --model "$FULGER_MODEL" $FULGER_LAYOUT --wait-for-workers --control "0.0.0.0:$((port + 1))" \
    --listen "${FULGER_LISTEN:-0.0.0.0}:$port" --drain-timeout "${FULGER_DRAIN:-60}" "$@" &
  coordinator=$!
  local command=("$worker" --coordinator "$host:$((port + 1))" --device "${FULGER_DEVICE:-cpu}")
  if [ "${FULGER_DEVICE:-cpu}" = cuda ]; then
    # shellcheck disable=SC2016
    command=(bash -c 'exec "$0" --coordinator "$1" --device "cuda:${SLURM_LOCALID:-$OMPI_COMM_WORLD_LOCAL_RANK}"' "$worker" "$host:$((port + 1))")
  else
    command+=(--threads "${SLURM_CPUS_PER_TASK:-1}")
  fi
  case ${FULGER_LAUNCH:-srun} in
    srun) srun --mpi=pmix --kill-on-bad-exit=1 "${command[@]}" & ;;
    mpirun) mpirun -np "$SLURM_NTASKS" --bind-to none "${command[@]}" & ;;
    *) fulger_fail "FULGER_LAUNCH=$FULGER_LAUNCH: expected srun or mpirun" ;;
  esac
  ranks=$!
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
    kill -0 "$coordinator" 2>/dev/null && kill -0 "$ranks" 2>/dev/null || return 1
    sleep 1
  done
}

# Waits for the coordinator through trapped signals, each of which ends a wait; its exit code.
wait_coordinator() {
  local code=0 last=0
  wait "$coordinator" || code=$?
  while [ "$code" -gt 128 ] && kill -0 "$coordinator" 2>/dev/null; do
    code=0
    wait "$coordinator" || code=$?
  done
  if [ "$code" -gt 128 ]; then
    wait "$coordinator" || last=$?
    [ "$last" -eq 127 ] || code=$last  # 127: that was its code
  fi
  return "$code"
}

# The coordinator drains and then ends the ranks itself. Its exit code is the job's.
stop_replica() {
  local code=0
  kill -TERM "$coordinator" 2>/dev/null || true
  wait_coordinator || code=$?
  wait "$ranks" || true
  return "$code"
}
