#!/bin/bash
# Tests pipelines/captions-burned-in.sh: white letters on what was black, for the whole time.
. "$(dirname "$0")/tap.sh"

check "a clip is made" make_clip "$DIR/clip.mp4"
check "it runs to its end" run 90 "$PIPELINES/captions-burned-in.sh" "$DIR/clip.mp4" "$DIR/out.mp4"
frames ()
{
  ffprobe -v error -count_frames -select_streams v:0 -show_entries stream=codec_name,nb_read_frames \
    -of csv=p=0 "$1"
}
check "every frame is there, as H.264" is "$(frames "$DIR/out.mp4")" "h264,200"
check "the input's black is black" has_no_caption "$DIR/clip.mp4" 5
check "a caption at 4.2 s" has_caption "$DIR/out.mp4" 4.2
check "a caption at 5 s" has_caption "$DIR/out.mp4" 5
check "a caption at 7.5 s" has_caption "$DIR/out.mp4" 7.5
done_testing
