#!/bin/bash
# Tests pipelines/subtitles-in-mkv.sh: another program finds the video and the subtitle track, with
# the windows' times and captions.
. "$(dirname "$0")/tap.sh"

check "a clip is made" make_clip "$DIR/clip.mp4"
check "it runs to its end" run 90 "$PIPELINES/subtitles-in-mkv.sh" "$DIR/clip.mp4" "$DIR/out.mkv"
codecs ()
{
  ffprobe -v error -show_entries stream=codec_name -of csv=p=0 "$1" | sort | paste -sd' '
}
check "two tracks" is "$(codecs "$DIR/out.mkv")" "h264 subrip"
check "the windows' times" is "$(subtitle_times "$DIR/out.mkv" | paste -sd,)" \
  "0 2000,2000 4000,4000 6000,6000 8000"
captions ()
{
  ffmpeg -v error -i "$1" -map 0:s:0 -f srt - | sed 's/<[^>]*>//g' | grep '^[A-Z]' | paste -sd' '
}
check "the captions" is "$(captions "$DIR/out.mkv")" \
  "Color bars. Color bars. A black screen. A black screen."
done_testing
