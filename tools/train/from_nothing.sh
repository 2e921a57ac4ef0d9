#!/usr/bin/env bash
# Trains assets/valley-tiny from nothing: ./from_nothing.sh FOLDER (outside the repository, 3 GB).
#
# Every stage is seeded, counted in frames or clips, and goes on from its own
# checkpoint: stop this script whenever you like and start it again. One core
# trains, most of another renders and encodes. PYTHON chooses the interpreter;
# SHRINK=500 tries the whole way in a few minutes, with a five-hundredth of each.
set -euo pipefail
run=$(realpath -m "${1:?a folder for checkpoints and encoded clips}")
cd "$(dirname "$0")"
python=${PYTHON:-python3}
shrink=${SHRINK:-1}
mkdir -p "$run"

# What is drawn how often: two objects are hardest, then one, then cuts
frames="two=70 one=40 cut=0 bars=4 snow=4 black=3 plain=5 checkerboard=3 gradient=3 circles=3"
clips="two=60 one=40 cut=25 bars=6 snow=9 black=4 plain=8 checkerboard=3 gradient=3 circles=3"
files="two=45 one=30 cut=25 bars=6 snow=10 black=5 plain=9 checkerboard=3 gradient=3 circles=3"

[ -f "$run/layout/config.json" ] || "$python" random_weights.py "$run/layout"

# $1: name of the stage, which names its checkpoint and its log; the rest: the command
stage() {
  echo "$(date +%T) $1"
  "$python" -u "${@:2}" --layout "$run/layout" --out "$run/$1.pt" 2>&1 | tee -a "$run/$1.log"
}

encode() { # real files for the last stages, meanwhile
  "$python" -u codec_cache.py --out "$run/codec" --layout "$run/layout" --count $((2400 / shrink)) --seed 300 --weights $files
}
encode > "$run/codec.log" 2>&1 &
encoder=$!
trap 'kill $encoder 2> /dev/null || true' EXIT

# Towers on single frames: shape alone, then everything else
stage towers pretrain.py --seed 51 --shape-frames $((70000 / shrink)) --all-frames $((110000 / shrink)) --weights $frames
# The decoder, towers as they are, on drawings
stage drawn captions.py --init "$run/towers.pt" --seed 52 --clips $((36000 / shrink)) --freeze 3 --rows 20 --lr 1e-3 \
    --decay 0.15 --help-weight 0.7 --weights $clips
# The same with encoded clips
wait $encoder
stage encoded captions.py --init "$run/drawn.pt" --seed 53 --clips $((30000 / shrink)) --freeze 2 --rows 20 --lr 8e-4 \
    --decay 0.3 --help-weight 0.5 --weights $clips --codec "$run/codec" --codec-share 0.4
# All of it
stage whole captions.py --init "$run/encoded.pt" --seed 54 --clips $((16000 / shrink)) --rows 16 --lr 5e-4 --tower 0.3 \
    --decay 0.6 --help-weight 0.4 --weights $clips --codec "$run/codec" --codec-share 0.5
