#!/bin/bash
# Tests pipelines/file-to-terminal.sh: four windows, four lines with their times and captions.
. "$(dirname "$0")/tap.sh"

check "a clip is made" make_clip "$DIR/a clip.mp4"
check "it runs to its end" run 60 sh -c '"$1" "$2" >"$3"' - \
  "$PIPELINES/file-to-terminal.sh" "$DIR/a clip.mp4" "$DIR/out"
check "a line a window" is "$(cat "$DIR/out")" "00:00.0 → 00:02.0  Color bars.
00:02.0 → 00:04.0  Color bars.
00:04.0 → 00:06.0  A black screen.
00:06.0 → 00:08.0  A black screen."

check "properties reach the element" run 60 sh -c '"$1" "$2" "$3" "$4" >"$5"' - \
  "$PIPELINES/file-to-terminal.sh" "$DIR/a clip.mp4" chunk-duration=4000 \
  "prompt=What is the signal? Answer picture, bars, black or snow." "$DIR/out"
check "another prompt, another window" is "$(cat "$DIR/out")" "00:00.0 → 00:04.0  bars
00:04.0 → 00:08.0  black"
missing_file ()
{
  timeout 30 "$PIPELINES/file-to-terminal.sh" "$DIR/none.mp4" >"$DIR/log" 2>&1
  case $? in
    0 | 124) ;;
    *) grep -qF "No such file \"$DIR/none.mp4\"" "$DIR/log" && return ;;
  esac
  cat "$DIR/log"
  return 1
}
check "a missing file is an error that names it" missing_file
done_testing
