# What every task does. It runs `command` on its share of the cells, passes on the warning that its time is
# ending, so that what was reached is saved, and has itself queued again while something is left to do.
task=${SLURM_ARRAY_TASK_ID:?is not set: submit this file with sbatch, or set it to the number of a task}
array=${SLURM_ARRAY_JOB_ID:-local}

warned=
trap 'warned=yes' USR1 TERM
# Until the command listens, it does not hear the warning, rather than die of it.
(trap '' USR1; exec "${command[@]}" --cells "$folder/tasks.txt#$task") &
child=$!
while kill -0 "$child" 2> /dev/null; do
  if [[ $warned ]]; then kill -USR1 "$child" 2> /dev/null; fi
  sleep 0.5
done
wait "$child"
code=$?
# Where there are several nodes, ray.sh cleans up after the command.
for ((i = 0; i < 60; i++)); do
  [[ -e $folder/ray/${SLURM_JOB_ID:-none} ]] || break
  sleep 0.5
done

# 3: something is left to do. Above 128: killed by a signal. Once warned, whatever was torn down with it.
again=
if [[ $code -eq 3 || $warned && $code -ne 0 && $code -ne 2 ]]; then
  again="exit code $code after a warning"
elif [[ $code -gt 128 && ${SLURM_RESTART_COUNT:-0} -lt $retries ]]; then
  again="killed by signal $((code - 128))"
fi
# Where SLURM has cancelled the task, or queued it again by itself, nothing is to be done.
if [[ $again && $array =~ ^[0-9]+$ ]] &&
  scontrol show job --oneliner "${array}_$task" 2> /dev/null | grep -q 'JobState=RUNNING'; then
  echo "task $task: $again; queued again"
  # SLURM ends this script then; if it were to end first, the task would count as ended.
  trap - USR1 TERM
  scontrol requeue "${array}_$task" && sleep 60
fi
exit "$code"
