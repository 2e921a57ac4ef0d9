#!/bin/bash
# Tests pipelines/json-lines.sh: every line is an object with the window, its answer and figures.
. "$(dirname "$0")/tap.sh"

check "a clip is made" make_clip "$DIR/clip.mp4"
check "it runs to its end" run 60 sh -c '"$1" "$2" stream-id=cam-1 >"$3"' - \
  "$PIPELINES/json-lines.sh" "$DIR/clip.mp4" "$DIR/out"
check "a line a window" is "$(wc -l <"$DIR/out")" 4
summarise ()
{
  python3 - "$1" <<'PYTHON'
import json, sys
offset = None  # between PTS and stream time: the encoder's delay, the same for all
for line in open(sys.argv[1], encoding="utf-8"):
    o = json.loads(line)
    if offset is None:
        offset = o["timestamp"]
    assert o["timestamp"] == offset + round(o["start_time"] * 1e9), line
    print(o["chunk_id"], o["stream_id"], o["start_time"], o["end_time"],
          o["frame_count"], o["frame_times"], o["finish_reason"], o["result"],
          0 < o["confidence"] <= 1, o["metrics"]["output_tokens"] > 0)
PYTHON
}
check "the fields" is "$(summarise "$DIR/out")" \
"0 cam-1 0.0 2.0 4 [0.0, 0.52, 1.0, 1.52] stop Color bars. True True
1 cam-1 2.0 4.0 4 [2.0, 2.52, 3.0, 3.52] stop Color bars. True True
2 cam-1 4.0 6.0 4 [4.0, 4.52, 5.0, 5.52] stop A black screen. True True
3 cam-1 6.0 8.0 4 [6.0, 6.52, 7.0, 7.52] stop A black screen. True True"
done_testing
