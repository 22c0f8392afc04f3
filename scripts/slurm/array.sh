#!/bin/bash
# One task of a Slurm array: works through one shard, and puts itself back into the queue when its time is up.
# Started by submit.sh, which sets the VOLSEG_ variables; GNU parallel can start it too (local.sh).
#
#   VOLSEG            the program                       VOLSEG_STOP_AFTER  a few minutes less than the time limit
#   VOLSEG_MANIFEST   list of cases                     VOLSEG_OPTIONS     more options for volseg batch run
#   VOLSEG_OUT        folder of the results             VOLSEG_SHARDS      number of shards
#SBATCH --requeue
#SBATCH --open-mode=append
set -u
child=
# Slurm signals the whole step at a time limit; USR1 (--signal=B:USR1@SECONDS) reaches this shell only. Both stop the worker,
# which drops its current case and leaves nothing half-done.
ended=
trap 'ended=yes; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null' TERM
trap '[ -z "$child" ] || kill -TERM "$child" 2>/dev/null' USR1
# shellcheck disable=SC2086
"${VOLSEG:-volseg}" batch run --manifest "$VOLSEG_MANIFEST" --out "$VOLSEG_OUT" --shard env --shards "$VOLSEG_SHARDS" \
    --stop-after "${VOLSEG_STOP_AFTER:-55m}" --threads "${SLURM_CPUS_PER_TASK:-1}" ${VOLSEG_OPTIONS:-} &
child=$!
# A trap ends the wait before the worker has ended.
while :; do
    wait "$child"
    code=$?
    kill -0 "$child" 2>/dev/null || break
done
# 75: cases are left. The same task starts again; what is done is skipped. Where Slurm itself ended it, it is Slurm's to say
# what follows: TIMEOUT at a limit, a new start after a preemption.
if [ "$code" = 75 ] && [ -z "$ended" ] && [ -n "${SLURM_ARRAY_JOB_ID:-}" ]; then
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}" && exit 75
fi
# 3: done, some cases failed. They are listed by `volseg batch status`; the task itself did its work.
[ "$code" = 3 ] && exit 0
exit "$code"
