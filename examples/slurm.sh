#!/bin/bash
# sbatch examples/slurm.sh CORPUS OUTPUT_DIR [options of m4ser train]
#
# Trains on all nodes of the job. Five minutes before the time is up the training saves a checkpoint and ends, and the job
# goes back into the queue, to go on from there.
#SBATCH --job-name=m4ser
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

corpus=$1 output=$2
shift 2
gpus=$((SLURM_NNODES * SLURM_GPUS_ON_NODE))
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

# SIGUSR1 is for the training; it would end the launchers on the way.
srun bash -c 'trap "" USR1; exec accelerate launch --config_file examples/configs/accelerate_multi_node.yaml \
    --num_machines "$SLURM_NNODES" --num_processes "$0" --machine_rank "$SLURM_NODEID" --main_process_ip "$1" \
    -m m4ser train --data_dir "$2" --output_dir "$3" --save_strategy steps --save_steps 200 --eval_strategy steps \
    --eval_steps 200 "${@:4}"' "$gpus" "$first" "$corpus" "$output" "$@" &
training=$!

stop() {
    # Again and again, since a training that is still loading does not hear it. What takes longer is ended by requeueing.
    for _ in {1..28}; do
        kill -0 "$training" 2> /dev/null || break
        scancel --signal=USR1 "$SLURM_JOB_ID.0" || true
        sleep 10
    done
    scontrol requeue "$SLURM_JOB_ID"
}
trap stop USR1
wait "$training"
