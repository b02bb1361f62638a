# Settings of your site. Copy this file to cluster/slurm/site.sh, which git ignores. `e2llm slurm` reads it before it submits,
# and the job before it starts; before a plain sbatch, run: source cluster/slurm/site.sh

# Where the job runs. sbatch reads these; options on its command line take precedence.
export SBATCH_ACCOUNT=my-project
export SBATCH_PARTITION=gpu
# export SBATCH_QOS=normal SBATCH_CONSTRAINT='a100|h100' SBATCH_TIMELIMIT=24:00:00

# Software. Without these lines the repository's own .venv is used.
# module load python/3.11 cuda/13
# source /projects/e2llm/venv/bin/activate

# Folder for data and runs that all nodes see; default: the repository.
# export E2LLM_ROOT=/projects/e2llm

# Folder on each node's own disk; Ray's sockets need a short path.
export TMPDIR=/tmp

# Network of the GPUs, and how soon an unresponsive node is given up (docs/faults.md).
# export NCCL_SOCKET_IFNAME=ib0 GLOO_SOCKET_IFNAME=ib0
# export RAY_health_check_period_ms=1000
