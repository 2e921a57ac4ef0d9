#!/bin/bash
# Tests pipelines/webvtt-beside-mp4.sh: valid cues whose times are the windows', also for a file
# whose time stamps do not start at 0.
. "$(dirname "$0")/tap.sh"

expected="WEBVTT

00:00:00.000 --> 00:00:02.000
Color bars.

00:00:02.000 --> 00:00:04.000
Color bars.

00:00:04.000 --> 00:00:06.000
A black screen.

00:00:06.000 --> 00:00:08.000
A black screen."

check "a clip is made" make_clip "$DIR/clip.mp4"
check "it runs to its end" run 60 "$PIPELINES/webvtt-beside-mp4.sh" "$DIR/clip.mp4"
check "a cue a window" is "$(cat "$DIR/clip.vtt")" "$expected"
check "another program reads it" is "$(subtitle_times "$DIR/clip.vtt" | paste -sd,)" \
  "0 2000,2000 4000,4000 6000,6000 8000"

check "the clip is moved on by an hour" run 30 \
  ffmpeg -v error -i "$DIR/clip.mp4" -c copy -output_ts_offset 3600 "$DIR/late.ts"
check "it runs to its end on that" run 60 "$PIPELINES/webvtt-beside-mp4.sh" "$DIR/late.ts"
check "the same cues" is "$(cat "$DIR/late.vtt")" "$expected"
done_testing
