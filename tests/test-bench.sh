#!/bin/bash
# test-bench.sh - `valley bench windows` and `bench gpu` (TAP): their JSON, CSV and table, what in them is counted
# and not timed, and what it says when something is wrong.
#
# SPDX-License-Identifier: Apache-2.0
. "$(dirname "$0")/pipelines/tap.sh"

VALLEY=$BUILD_DIR/tools/valley
CONFIG=$SOURCE_DIR/assets/valley-tiny/config.json

bench ()
{
  run 100 env -u VALLEY_MODEL_DIR "$VALLEY" bench windows "$@" 2>"$DIR/stderr"
}

# fails STATUS TEXT COMMAND... : ends with STATUS and prints TEXT on standard error.
fails ()
{
  local want=$1 text=$2 status
  shift 2
  timeout -k 5 60 "$@" >/dev/null 2>"$DIR/stderr" </dev/null
  status=$?
  cat "$DIR/stderr"
  [ $status -eq "$want" ] || { echo "status $status, not $want"; return 1; }
  grep -qF -- "$text" "$DIR/stderr" || { echo "does not say: $text"; return 1; }
}

# json EXPRESSION : true of `rows`, a dictionary by policy.
json ()
{
  python3 - "$DIR/bench.json" "$1" <<'PYTHON'
import json
import sys

table = json.load(open(sys.argv[1]))["rows"]
rows = {row["policy"]: row for row in table}
exact = [row for row in table if row["policy"] != "streaming"]
if not eval(sys.argv[2]):
    sys.exit(json.dumps(table, indent=1))
PYTHON
}

# csv EXPRESSION : true of `table`, a list of dictionaries.
csv ()
{
  python3 - "$DIR/bench.csv" "$1" <<'PYTHON'
import csv
import sys

table = list(csv.DictReader(open(sys.argv[1])))
moving = [row for row in table if row["scene"] == "moving" and row["policy"] != "naive"]
still = [row for row in table if row["scene"] == "still"]
if not eval(sys.argv[2]):
    sys.exit("\n".join(map(str, table)))
PYTHON
}

# ---- the bars, as counts: no timing decides ----

check "--json ends well" eval 'bench --json --window 16 --hop 1 --windows 1 >"$DIR/bench.json"'
check "a row for naive and each policy" json \
  'sorted(rows) == ["anchored", "naive", "sliding", "streaming", "tumbling"] and len(table) == 5'
check "of that window and hop" json 'all(row["window"] == 16 and row["hop"] == 1 for row in table)'
check "anchored prefills 11 times fewer rows" json 'rows["anchored"]["prefill_ratio"] >= 11'
check "streaming 12 times" json 'rows["streaming"]["prefill_ratio"] >= 12'
check "all but streaming give naive's bits" json 'all(row["exact"] is True for row in exact)'
check "streaming does not" json 'rows["streaming"]["exact"] is False'
check "memory is as predicted or less" json \
  'all(0 < row["kv_bytes"] + row["encoding_bytes"] <= row["predicted_bytes"] for row in table if row["policy"] != "naive")'
check "sliding takes most of it" json \
  'rows["sliding"]["kv_bytes"] == max(row["kv_bytes"] for row in table)'
check "times are there" json \
  'all(row["hop_ms"] > 0 and row["first_token_ms"] > 0 and row["first_token_ratio"] > 0 and row["hops_per_second"] > 0 for row in table)'

# ---- every saving, another model, fewer layers ----

check "a table and CSV" eval \
  'bench --window 4 --hop 2 --windows 1 --config "$CONFIG" --layers 1 --max-new-tokens 4 --csv "$DIR/bench.csv" >"$DIR/table"'
check "a line for naive and each policy's savings" csv 'len(table) == 1 + 4 * 5'
check "and in the table" is "$(grep -cE '^ 4  2 ' "$DIR/table")" 21
check "each frame is encoded once" csv \
  'all(row["frames_encoded"] == row["frames_pushed"] != "0" for row in moving)'
check "one that stays is encoded once for all" csv 'all(row["frames_encoded"] == "1" for row in still)'
check "only drafting drafts" csv \
  'all((int(row["drafted"]) == 0) for row in table if "draft" not in row["savings"])'
check "exact policies are exact with each saving" csv \
  'all(row["exact"] == "1" for row in moving if row["policy"] != "streaming")'

# ---- bench gpu: its times are anything, its counts are not ----

bench_gpu ()
{
  run 100 env -u VALLEY_MODEL_DIR "$VALLEY" bench gpu --device cpu --window 8 --hop 4 --max-new-tokens 6 \
    >"$DIR/gpu.json" 2>"$DIR/stderr"
}

# gpu EXPRESSION : true of `bench` and `stream`.
gpu ()
{
  python3 - "$DIR/gpu.json" "$1" <<'PYTHON'
import json
import sys

bench = json.load(open(sys.argv[1]))
stream = bench["stream"]
if not eval(sys.argv[2]):
    sys.exit(json.dumps(bench, indent=1))
PYTHON
}

check "gpu ends well" bench_gpu
check "it names the device" gpu 'bench["device"] == "cpu"'
check "every stage took some time" gpu \
  'all(bench[stage + "_ms"] > 0 for stage in ("open", "frame", "append", "question", "token"))'
check "a frame has its rows, after those of 7" gpu '7 * (bench["append_rows"] - 2) < bench["append_context"]'
check "the stream is what was asked for" gpu '(stream["window"], stream["hop"], stream["answer_tokens"]) == (8, 4, 6)'
check "its first token is part of its work" gpu \
  '0 < stream["first_token_ms"] / 1e3 < stream["worst"] * stream["hop"] / 25 and stream["seconds_per_second"] <= stream["worst"]'

# ---- what is wrong is said ----

check "what to measure is named" fails 2 "windows" "$VALLEY" bench
check "and known" fails 2 "windows" "$VALLEY" bench pictures
check "a hop longer than the window" fails 2 "--hop" "$VALLEY" bench windows --window 4 --hop 5
check "a window of no frame" fails 2 "--window: expected a whole number from 1" "$VALLEY" bench windows --window 0
check "a window of thousands" fails 2 "1024" "$VALLEY" bench windows --window 5000
check "layers of a whole model" fails 2 "--config" "$VALLEY" bench windows --layers 2
check "two models" fails 2 "either" "$VALLEY" bench windows --model "$DIR" --config "$CONFIG"
check "no such config" fails 1 "$DIR/none.json" "$VALLEY" bench windows --config "$DIR/none.json"
echo "[]" >"$DIR/list.json"
check "a config that is a list" fails 1 "$DIR/list.json" \
  "$VALLEY" bench windows --config "$DIR/list.json"
echo '{"num_hidden_layers":[4]}' >"$DIR/layers.json"
check "layers that are no number" fails 1 "num_hidden_layers: expected" \
  "$VALLEY" bench windows --config "$DIR/layers.json" --layers 2
echo '{"vision_config":5}' >"$DIR/tower.json"
check "a tower that is no object" fails 1 "vision_config: expected" \
  "$VALLEY" bench windows --config "$DIR/tower.json" --layers 2
check "more layers than there are" fails 1 "num_hidden_layers" \
  "$VALLEY" bench windows --config "$CONFIG" --layers 99
check "a CSV that cannot be written" fails 1 "$DIR/none/x.csv" \
  "$VALLEY" bench windows --window 4 --hop 4 --config "$CONFIG" --csv "$DIR/none/x.csv"
check "a report that cannot be written" eval \
  '! "$VALLEY" bench windows --window 4 --hop 4 --windows 1 --config "$CONFIG" >/dev/full'
check "nothing is left behind" eval '! ls -d "${TMPDIR:-/tmp}"/valley-bench-* 2>/dev/null'

done_testing
