#!/bin/bash
# test-roofline.sh - docs/gpu-roofline.md is what tools/gpu_roofline.py makes of docs/gpu-counts.json,
# and the counts are what the model's shapes demand (TAP).
#
# SPDX-License-Identifier: Apache-2.0
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1

if ! command -v python3 >/dev/null; then
  echo "1..0 # SKIP no python3"
  exit 0
fi
count=0
# check NAME COMMAND...
check ()
{
  local name=$1 log
  shift
  count=$((count + 1))
  if log=$("$@" 2>&1); then
    echo "ok $count - $name"
  else
    echo "not ok $count - $name"
    # shellcheck disable=SC2001
    echo "$log" | sed 's/^/# /' | head -n 20
  fi
}

same_table ()
{
  diff <(tools/gpu_roofline.py table docs/gpu-counts.json) docs/gpu-roofline.md
}

# counts EXPRESSION : true of `work`
counts ()
{
  python3 - "$1" <<'PYTHON'
import json
import sys

sys.path.insert(0, "tools")
import gpu_roofline as roofline

work = roofline.Work(json.load(open("docs/gpu-counts.json")))
config = json.load(open("tests/gpu/valley2-7b.json"))
h, f, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
matrices = layers * (2 * h * h + 2 * h * 512 + 3 * h * f)
head = h * config["vocab_size"]
token = roofline.moved(dict(work.tokens)[1024])
frame, append = (roofline.total(counts, "tensor_flops") for _, counts in work.stages[:2])
attention = work.stages[1][1]["tile_attention"]["tensor_flops"]
keys_read = roofline.moved({"": dict(work.tokens)[8192]["split_attention"]})

def tower(layers, rows, width, hidden):
    return layers * (2 * rows * (4 * width * width + 2 * width * hidden) + 4 * rows * rows * width)

towers = tower(27, 729, 1152, 4304) + tower(32, 720, 1280, 5120)
if not eval(sys.argv[1]):
    sys.exit(f"{matrices=} {head=} {token=} {append=} {frame=} {towers=} {attention=} {keys_read=}")
PYTHON
}

check "the committed page is what the script prints" same_table
check "a token reads every weight once, and little else" counts '1 < token / (2 * (matrices + head)) < 1.05'
check "an append multiplies its rows with every matrix" counts \
  '2 * work.rows * matrices * 27 / 28 < append < 2 * work.rows * matrices * 1.6'
check "its attention sees every key before its rows, in all layers but for the last one's other rows" counts \
  '1 < attention / (4 * work.rows * (work.context + work.rows / 2) * h * (layers - 1)) < 1.05'
check "a frame is its towers, and little else" counts '1 < frame / towers < 1.1'
check "a token reads the keys and values of its context" counts '1 < keys_read / (2 * 2 * 512 * 8192 * layers) < 1.1'
echo "1..$count"
