#!/bin/sh
# Train both checkpoints from nothing: sh train/run.sh [work folder]
set -eu
cd "$(dirname "$0")"
work=${1:-../build/train}
python=${PYTHON:-python}
export OMP_NUM_THREADS=2 OMP_WAIT_POLICY=PASSIVE KMP_BLOCKTIME=0

$python tokenizer.py "$work/tokenizer" --seed 1
t=$work/tokenizer/tokenizer.model
# PT, phase 1: large batches, stopped early in a long schedule
$python pretrain.py --tokenizer "$t" --out "$work/pt1" --seed 11 --lr 3e-3 --warmup 100 --batch 8 --no-copies --steps 2600 --stop 1000
# PT, phase 2: small batches, and documents that say something twice
$python pretrain.py --tokenizer "$t" --out "$work/pt2" --start "$work/pt1/state.pt" --seed 12 --lr 2.5e-3 --batch 4 --steps 1400
$python export.py "$work/pt2" checkpoints/tiny-pt --before "$work/pt1" --tokenizer "$t" --stage pt
# SFT
$python finetune.py --tokenizer "$t" --out "$work/sft" --start "$work/pt2/state.pt" --seed 22 --lr 2e-3 --warmup 80 --batch 4 --steps 1647
$python export.py "$work/sft" checkpoints/tiny-sft --tokenizer "$t" --stage sft
