#!/bin/bash
# Tests pipelines/several-questions.sh: a line for every window and question, whatever is in it.
. "$(dirname "$0")/tap.sh"

check "a clip is made" make_clip "$DIR/a clip.mp4"
check "it runs to its end" run 60 sh -c '"$1" "$2" "$3" "$4" "$5" >"$6"' - \
  "$PIPELINES/several-questions.sh" "$DIR/a clip.mp4" "Describe the video." \
  "What is the signal? Answer picture, bars, black or snow." 'Is "\<x>", y or {start} there?' \
  "$DIR/out"
summarise ()
{
  python3 - "$1" <<'PYTHON'
import json, sys
for line in open(sys.argv[1], encoding="utf-8"):
    o = json.loads(line)
    print(o["start_time"], o["prompt_id"], o["result"] if o["prompt_id"] < 2 else "error" in o)
PYTHON
}
check "a line for each" is "$(summarise "$DIR/out")" \
"0.0 0 Color bars.
0.0 1 bars
0.0 2 False
2.0 0 Color bars.
2.0 1 bars
2.0 2 False
4.0 0 A black screen.
4.0 1 black
4.0 2 False
6.0 0 A black screen.
6.0 1 black
6.0 2 False"
done_testing
