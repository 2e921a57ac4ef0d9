#!/bin/bash
# Tests pipelines/rtsp-display.sh and rtsp-captioned-rtsp.sh on a real RTSP stream of the clip:
# letters stand on what was black.  (Live captions lag: those over the first black are the bars'.)
. "$(dirname "$0")/tap.sh"

check "a clip is made" make_clip "$DIR/clip.mp4"

start_server "$BUILD_DIR/tests/rtsp-server" --file "$DIR/clip.mp4"
source_url=$url
VIDEO_SINK="x264enc tune=zerolatency ! mp4mux ! filesink location=$DIR/shown.mp4"
export VIDEO_SINK
check "the display pipeline plays to the stream's end" run 60 "$PIPELINES/rtsp-display.sh" \
  "$source_url"
check "the displayed picture has captions" has_caption "$DIR/shown.mp4" 6

# Once its own source has ended, the second server may hang up before the client does; the
# client then ends with an error although it has everything.  So what counts is what it wrote.
plays_to_its_end ()
{
  local log seconds
  log=$(timeout -k 5 60 gst-launch-1.0 -q -e \
    rtspsrc location="$url" protocols=tcp ! rtph264depay ! h264parse ! mp4mux \
    ! filesink location="$1" 2>&1 </dev/null)
  seconds=$(ffprobe -v error -show_entries format=duration -of csv=p=0 "$1")
  case ${seconds%%.*} in 7 | 8 | 9) return ;; esac
  printf '%s: got %s seconds, wanted about 8\n%s\n' "$1" "${seconds:-no}" "$log"
  return 1
}

start_server "$PIPELINES/rtsp-captioned-rtsp.sh" "$source_url" 0
check "the captioned stream plays to its end" plays_to_its_end "$DIR/captioned.mp4"
check "the captioned stream has captions" has_caption "$DIR/captioned.mp4" 6
done_testing
