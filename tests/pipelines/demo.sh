#!/bin/bash
# Tests pipelines/demo.sh: it finds its captions, leaves files that agree with each other, and
# with a model that knows nothing it says what is missing and fails.
. "$(dirname "$0")/tap.sh"

check "the demo runs and finds its captions" run 150 "$PIPELINES/demo.sh" --out "$DIR/demo"
check "a caption over the black" has_caption "$DIR/demo/demo.mp4" 26
cues ()
{
  grep -A1 -e ' --> ' "$DIR/demo/demo.vtt" | grep -v -e ' --> ' -e '^--$'
}
results ()
{
  python3 -c 'import json, sys
for line in sys.stdin:
    print(json.loads(line)["result"])' <"$DIR/demo/demo.jsonl"
}
check "WebVTT and JSON lines tell the same" is "$(cues)" "$(results)"
check "a window every two seconds" is "$(cues | wc -l)" 15

ignorant ()
{
  local status
  VALLEY_MODEL_DIR=$SOURCE_DIR/tests/golden/ovis-softmax \
    timeout 150 "$PIPELINES/demo.sh" --out "$DIR/ignorant" >"$DIR/log" 2>&1
  status=$?
  [ $status -eq 1 ] && grep -q '^MISSING: "Color bars."' "$DIR/log" && return
  echo "status $status"
  cat "$DIR/log"
  return 1
}
check "a model that knows nothing is found out" ignorant
done_testing
