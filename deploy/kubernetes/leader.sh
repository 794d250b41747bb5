#!/usr/bin/env bash
# What the leader pod of leaderworkerset.yaml runs: the coordinator here, the ranks by mpirun over ssh in the worker pods of its
# group; without worker pods (size: 1) here as well. Variables: ../jobs/replica.sh, and
#   FULGER_RANKS_PER_POD  ranks of a worker pod     (default: 1)
#   FULGER_THREADS        compute threads of a rank (default: 1)
set -euo pipefail
deploy=${FULGER_DEPLOY:-/opt/fulger/deploy}
[ -n "${LWS_LEADER_ADDRESS:-}" ] || { echo "fulger job: LWS_LEADER_ADDRESS is not set: no pod of a LeaderWorkerSet" >&2; exit 2; }
# POD.SERVICE.NAMESPACE; its workers are POD-1.SERVICE.NAMESPACE, POD-2, ...
pod=${LWS_LEADER_ADDRESS%%.*} rest=${LWS_LEADER_ADDRESS#"${LWS_LEADER_ADDRESS%%.*}"}
size=${LWS_GROUP_SIZE:-1} per_pod=${FULGER_RANKS_PER_POD:-1}
hosts=()
for ((i = 1; i < size; ++i)); do hosts+=("$pod-$i$rest"); done
[ ${#hosts[@]} -gt 0 ] || hosts=(localhost)
job_id=$pod
job_ranks=$((per_pod * ${#hosts[@]}))
job_nodes=$(IFS=,; echo "${hosts[*]}")
job_threads=${FULGER_THREADS:-1}
job_end=''
FULGER_HOST=${FULGER_HOST:-$LWS_LEADER_ADDRESS}

# A worker pod that is not there yet has no name and no sshd. The job's own deadline (FULGER_START) ends the wait.
wait_for_hosts() {
  local name waited=0
  for name in "${hosts[@]}"; do
    [ "$name" = localhost ] && continue
    until (exec 3<>"/dev/tcp/$name/2222") 2>/dev/null; do
      [ "$waited" -lt "${FULGER_START:-300}" ] || { echo "fulger job: no sshd at $name:2222: is that pod running?" >&2; return 1; }
      sleep 1
      waited=$((waited + 1))
    done
  done
}
launch_ranks() {
  local ssh="ssh -p 2222 -i /etc/fulger-ssh/id_ed25519 -o UserKnownHostsFile=/etc/fulger-ssh/known_hosts -o BatchMode=yes"
  (wait_for_hosts && exec env OMPI_MCA_plm_rsh_agent="${FULGER_RSH:-$ssh}" mpirun -np "$job_ranks" \
    --host "$(printf "%s:$per_pod\n" "${hosts[@]}" | paste -s -d,)" --bind-to none "$@") &
  ranks=$!
}
# shellcheck source=deploy/jobs/replica.sh
. "$deploy/jobs/replica.sh"
# shellcheck source=deploy/jobs/serve.sh
. "$deploy/jobs/serve.sh"
