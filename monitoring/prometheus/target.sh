#!/usr/bin/env bash
# Tells Prometheus (its job fulger-jobs, prometheus.yml) of a server that a Slurm or PBS job runs. Call it from the job's script:
#
#   target.sh add FOLDER HOST:PORT [LABEL=VALUE ...]   writes FOLDER/fulger-JOB.json; JOB is the scheduler's number
#   target.sh remove FOLDER                            takes it away: trap 'target.sh remove FOLDER' EXIT
#   target.sh prune FOLDER                             takes away those whose job the scheduler no longer has; cron, by hand
#
# FOLDER is on a file system that the job and Prometheus share. Labels that come by themselves: scheduler, job_id, job_name,
# cluster (where Slurm says it). scheme=https where the server has TLS.
set -euo pipefail

usage() {
  sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

# "slurm 4711", "pbs 4711.server"; of a process of no job "none PID"
job() {
  if [ -n "${SLURM_JOB_ID:-}" ]; then
    echo "slurm $SLURM_JOB_ID"
  elif [ -n "${PBS_JOBID:-}" ]; then
    echo "pbs $PBS_JOBID"
  else
    echo "none ${FULGER_JOB:-$PPID}"
  fi
}

# A scheduler that cannot be asked leaves the file alone.
ended() {
  local listed
  case $1 in
    slurm) listed=$(squeue --noheader --format=%A) || return 1 ;;
    pbs) listed=$(qstat | awk 'NR > 2 {print $1}') || return 1 ;;
    *) return 1 ;;
  esac
  # qstat may cut the server's name off: the number counts.
  ! cut -d. -f1 <<<"$listed" | grep -qxF -e "${2%%.*}"
}

[ $# -ge 2 ] || usage
command=$1 folder=$2
read -r scheduler id < <(job)
file=$folder/fulger-$scheduler-$id.json
case $command in
  add)
    [ $# -ge 3 ] || usage
    mkdir -p "$folder"
    # Python quotes the values; the file appears whole, since the rename is one step.
    python3 - "$file" "$3" "$scheduler" "$id" "${@:4}" <<'PYTHON'
import json, os, re, sys
file, target, scheduler, job, *more = sys.argv[1:]
if not re.fullmatch(r"(\[[0-9A-Fa-f:]+\]|[^:/\s]+):\d+", target):
    sys.exit(f"target.sh: {target!r} is not HOST:PORT")
environment = os.environ.get
labels = {"scheduler": scheduler, "job_id": job}
labels["job_name"] = environment("SLURM_JOB_NAME") or environment("PBS_JOBNAME")
labels["cluster"] = environment("SLURM_CLUSTER_NAME")
for label in more:
    name, equals, value = label.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        sys.exit(f"target.sh: {label!r} is not LABEL=VALUE")
    labels["__scheme__" if name == "scheme" else name] = value
with open(file + ".new", "w", encoding="utf-8") as out:
    json.dump([{"targets": [target], "labels": {name: value for name, value in labels.items() if value}}], out)
os.chmod(file + ".new", 0o644)
os.rename(file + ".new", file)
PYTHON
    ;;
  remove) rm -f "$file" ;;
  prune)
    for file in "$folder"/fulger-*-*.json; do
      [ -e "$file" ] || continue
      name=${file##*/fulger-} name=${name%.json}
      if ended "${name%%-*}" "${name#*-}"; then
        rm -f "$file"
        echo "removed ${file##*/}"
      fi
    done
    ;;
  *) usage ;;
esac
