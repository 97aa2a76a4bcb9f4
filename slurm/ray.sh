#!/bin/bash
# Ray over the nodes of one SLURM job, for one command:
#
#   bash ray.sh RAY ... -- COMMAND ...       # such as: bash ray.sh ray -- fedsim sweep heart_disease executor=ray
#
# Starts Ray's head on the job's first node and a worker on each of the others, becomes COMMAND on the first
# node with RAY_ADDRESS set, and ends what it started, by process id, when COMMAND has ended. Nobody without
# the token in the job's folder can join. To be called in a batch script.
set -euo pipefail
shopt -s inherit_errexit

readonly START_SECONDS=${FEDSIM_RAY_START_SECONDS:-180} # for all nodes to be up
ray=()
while [[ $# -gt 0 && $1 != -- ]]; do ray+=("$1"); shift; done
shift || { echo "ray.sh: no -- before the command" >&2; exit 2; }
fail() { echo "ray.sh: $1" >&2; exit 1; }

umask 077
room=$(cd "$(dirname "$0")" && pwd)/ray/$SLURM_JOB_ID
mkdir -p "$room"
rm -f "$room"/*.out # of this job, before it was queued again
head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n' > "$room/token"
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$room/token RAY_USAGE_STATS_ENABLED=0

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
address() { # address NODE: its number in the network
  local name
  name=$(scontrol show node --oneliner "$1" | grep -o 'NodeAddr=[^ ]*') || fail "node $1 has no address"
  getent ahostsv4 "${name#NodeAddr=}" | awk 'NR == 1 { print $1 }'
}
first=$(address "${nodes[0]}")
# Jobs that share a node differ here; all other ports are chosen by the system.
port=$((20000 + SLURM_JOB_ID % 10000))
temporary=/tmp/fedsim-ray-$SLURM_JOB_ID

# A step that cannot be placed waits for ever.
timeout 120 srun --overlap --mem=0 --nodes="${#nodes[@]}" --ntasks="${#nodes[@]}" --ntasks-per-node=1 true ||
  fail "not all of ${nodes[*]} take a step"

steps=()
start() { # start NODE OPTION ...: Ray on NODE, as a step that lasts as long as Ray does
  local node=$1 ip
  shift
  ip=$(address "$node")
  srun --overlap --mem=0 --nodes=1 --ntasks=1 --nodelist="$node" bash -c '
    temporary=$1; shift
    "$@" & child=$!
    # Told by the token, since an srun that is ended kills its step.
    while kill -0 $child 2> /dev/null && [[ -e $RAY_AUTH_TOKEN_PATH ]]; do sleep 0.5; done
    kill $child 2> /dev/null
    wait $child
    rm -rf "$temporary"' step "$temporary" \
    "${ray[@]}" start "$@" --node-ip-address="$ip" --num-cpus="${SLURM_CPUS_PER_TASK:-1}" \
    --min-worker-port=0 --max-worker-port=0 --disable-usage-stats --block \
    < /dev/null > "$room/$node.out" 2>&1 &
  steps+=("$!")
}
ready() { # ready NODE: until Ray says that it runs there
  until grep -q 'Ray runtime started' "$room/$1.out" 2> /dev/null; do
    kill -0 "${steps[-1]}" 2> /dev/null && [[ $SECONDS -lt $START_SECONDS ]] || {
      cat "$room/$1.out" >&2
      fail "Ray did not start on $1"
    }
    sleep 0.5
  done
}
end() { # Ray ends on every node once the token is gone; what does not is killed
  rm -f "$room/token"
  for ((i = 0; i < 40; i++)); do
    kill -0 "${steps[@]}" 2> /dev/null || break
    sleep 0.5
  done
  kill "${steps[@]}" 2> /dev/null || true
  rm -rf "$room"
}
trap end EXIT

start "${nodes[0]}" --head --port="$port" --include-dashboard=false --temp-dir="$temporary"
ready "${nodes[0]}"
for node in "${nodes[@]:1}"; do
  start "$node" --address="$first:$port"
done
for node in "${nodes[@]:1}"; do ready "$node"; done

# COMMAND takes this process's place, so that it hears signals itself; this one waits for its end.
me=$$
(
  trap '' USR1
  while kill -0 "$me" 2> /dev/null; do sleep 1; done
  end
) &
trap - EXIT
export RAY_ADDRESS=$first:$port
exec "$@"
