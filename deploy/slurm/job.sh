# shellcheck shell=bash
# job.sh: what a job under Slurm has; sourced by the scripts beside it. Variables: ../jobs/replica.sh, and
#   FULGER_LAUNCH  srun or mpirun (default: srun)
#   FULGER_MPI     srun's --mpi, one of `srun --mpi=list` that the MPI library speaks (default: pmix)
# In a heterogeneous job the first component has the coordinator alone, and the ranks are in the others, in their order.
[ -n "${SLURM_JOB_ID:-}" ] || { echo "fulger job: not inside a Slurm job: sbatch $0" >&2; exit 2; }
job_id=$SLURM_JOB_ID
job_ranks=${SLURM_NTASKS:-1}  # not set where nothing was asked for
job_nodes=$SLURM_JOB_NODELIST
job_threads=${SLURM_CPUS_PER_TASK:-1}
# Newer ones say when the job ends; others are asked. A job without an end has none.
job_end=${SLURM_JOB_END_TIME:-$(date --date "$(squeue --noheader --jobs "$SLURM_JOB_ID" --format %e | head -n 1)" +%s 2>/dev/null || true)}
groups=()
if [ -n "${SLURM_HET_SIZE:-}" ]; then
  groups=("--het-group=1-$((SLURM_HET_SIZE - 1))")
  job_ranks=0 job_nodes=
  for ((group = 1; group < SLURM_HET_SIZE; ++group)); do
    tasks=SLURM_NTASKS_HET_GROUP_$group nodes=SLURM_JOB_NODELIST_HET_GROUP_$group threads=SLURM_CPUS_PER_TASK_HET_GROUP_$group
    job_ranks=$((job_ranks + ${!tasks}))
    job_nodes+="${job_nodes:+,}${!nodes}"
    job_threads=${!threads:-1}
  done
fi

launch_ranks() {
  case ${FULGER_LAUNCH:-srun} in
    srun) srun --mpi="${FULGER_MPI:-pmix}" --kill-on-bad-exit=1 "${groups[@]}" "$@" & ;;
    mpirun)
      [ -z "${SLURM_HET_SIZE:-}" ] || fulger_fail "FULGER_LAUNCH=mpirun: a heterogeneous job needs srun"
      mpirun -np "$job_ranks" --bind-to none "$@" & ;;
    *) fulger_fail "FULGER_LAUNCH=$FULGER_LAUNCH: expected srun or mpirun" ;;
  esac
  ranks=$!
}
# shellcheck source=deploy/jobs/replica.sh
. "$deploy/jobs/replica.sh"
