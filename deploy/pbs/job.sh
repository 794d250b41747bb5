# shellcheck shell=bash
# job.sh: what a job under PBS Pro or OpenPBS has; sourced by the scripts beside it. Variables: ../jobs/replica.sh, and
#   FULGER_THREADS  compute threads of a CPU rank (default: OMP_NUM_THREADS, which PBS sets from ompthreads)
# Its log is fulger-NUMBER.log where it was submitted, written while it runs.
[ -n "${PBS_JOBID:-}" ] || { echo "fulger job: not inside a PBS job: qsub -V $0" >&2; exit 2; }
cd "${PBS_O_WORKDIR:-.}"
exec >"fulger-${PBS_JOBID%%.*}.log" 2>&1
job_started=$(date +%s)
[ -f "${PBS_NODEFILE:-}" ] || { echo "fulger job: PBS_NODEFILE=${PBS_NODEFILE:-} is no file" >&2; exit 2; }
job_id=$PBS_JOBID
job_ranks=$(wc -l <"$PBS_NODEFILE")  # a line per MPI process: select=...:mpiprocs=N
job_nodes=$(sort -u "$PBS_NODEFILE" | paste -s -d,)
job_threads=${FULGER_THREADS:-${OMP_NUM_THREADS:-1}}

# Seconds of "HH:MM:SS", "MM:SS" or "SS"; nothing for nothing.
seconds_of() { awk -F: 'NF {for (i = 1; i <= NF; ++i) s = 60 * s + $i; print s}' <<<"$1"; }
# PBS gives no warning before the end, so the server must know it: what was asked for, less what has run.
end_of_job() {
  local walltime used
  walltime=$(qstat -f "$PBS_JOBID" 2>/dev/null | awk '$1 == "Resource_List.walltime" {print $3}')
  used=$(qstat -f "$PBS_JOBID" 2>/dev/null | awk '$1 == "resources_used.walltime" {print $3}')
  [ -n "$walltime" ] || return 0
  echo $((job_started + $(seconds_of "$walltime") - $(seconds_of "${used:-0}")))
}
job_end=$(end_of_job)
[ -n "$job_end" ] || echo "fulger job: qstat does not say when the job ends: qsig -s SIGTERM ${PBS_JOBID%%.*} drains it"

# PBS's own way to other nodes, under which it counts and ends the ranks; Open MPI built without PBS takes ssh otherwise.
! command -v pbs_tmrsh >/dev/null || export OMPI_MCA_plm_rsh_agent=${OMPI_MCA_plm_rsh_agent:-pbs_tmrsh}
launch_ranks() {
  mpirun -np "$job_ranks" --hostfile "$PBS_NODEFILE" --bind-to none "$@" &
  ranks=$!
}
# shellcheck source=deploy/jobs/replica.sh
. "$deploy/jobs/replica.sh"
