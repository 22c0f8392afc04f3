# A Slurm of one node for tests, without systemd, cgroups or a database: source it, then slurm_start and slurm_stop.
# Needs root and Debian's slurm-wlm and munge. All files lie in one temporary folder; only the three daemons started here are
# stopped again.

slurm_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

slurm_daemon() { # NAME COMMAND...   ends with the shell that started it
    local name=$1
    shift
    setpriv --pdeathsig TERM "$@" >>"$SLURM_FOLDER/log/$name.out" 2>&1 &
    SLURM_DAEMONS="$! ${SLURM_DAEMONS:-}"
}

slurm_start() {
    local host=$(hostname -s) try
    SLURM_FOLDER=$(mktemp -d "${TMPDIR:-/tmp}/slurm.XXXXXX")
    mkdir "$SLURM_FOLDER"/{munge,state,spool,log}
    chmod 755 "$SLURM_FOLDER" "$SLURM_FOLDER"/*
    cat >"$SLURM_FOLDER/slurm.conf" <<CONF
ClusterName=local
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$(slurm_port)
SlurmdPort=$(slurm_port)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$SLURM_FOLDER/munge/socket,cred_expire=5
CredType=cred/munge
StateSaveLocation=$SLURM_FOLDER/state
SlurmdSpoolDir=$SLURM_FOLDER/spool
SlurmctldPidFile=$SLURM_FOLDER/slurmctld.pid
SlurmdPidFile=$SLURM_FOLDER/slurmd.pid
SlurmctldLogFile=$SLURM_FOLDER/log/slurmctld.log
SlurmdLogFile=$SLURM_FOLDER/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
MinJobAge=600
NodeName=$host NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
    export SLURM_CONF=$SLURM_FOLDER/slurm.conf
    (umask 077 && head -c 1024 /dev/urandom >"$SLURM_FOLDER/munge/key")
    slurm_daemon munged munged --foreground --key-file="$SLURM_FOLDER/munge/key" --socket="$SLURM_FOLDER/munge/socket" \
        --pid-file="$SLURM_FOLDER/munge/pid" --log-file="$SLURM_FOLDER/log/munged.log" --seed-file="$SLURM_FOLDER/munge/seed"
    for try in $(seq 50); do [ -S "$SLURM_FOLDER/munge/socket" ] && break; sleep 0.1; done
    slurm_daemon slurmctld slurmctld -D -c
    slurm_daemon slurmd slurmd -D
    for try in $(seq 150); do
        [ "$(timeout 5 sinfo -h -o %T 2>/dev/null)" = idle ] && return 0
        sleep 0.2
    done
    tail -n 20 "$SLURM_FOLDER"/log/* >&2
    return 1
}

slurm_stop() {
    local job try daemon
    [ -n "${SLURM_FOLDER:-}" ] || return 0
    for job in $(timeout 5 squeue -h -o %A 2>/dev/null | sort -u); do timeout 5 scancel "$job" || :; done
    for try in $(seq 100); do
        [ -z "$(timeout 5 squeue -h 2>/dev/null)" ] && [ -z "$(find "$SLURM_FOLDER/spool" -type s 2>/dev/null)" ] && break
        sleep 0.2
    done
    # The newest first: slurmd, slurmctld, munged.
    for daemon in ${SLURM_DAEMONS:-}; do
        kill "$daemon" 2>/dev/null || :
        wait "$daemon" 2>/dev/null || :
    done
    rm -rf "$SLURM_FOLDER"
    unset SLURM_FOLDER SLURM_CONF SLURM_DAEMONS
}

# Waits until no job is left in the queue.
slurm_wait() {
    while [ -n "$(timeout 10 squeue -h 2>/dev/null)" ]; do sleep 1; done
}
