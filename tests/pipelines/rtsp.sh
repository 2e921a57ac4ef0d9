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

start_server "$PIPELINES/rtsp-captioned-rtsp.sh" "$source_url" 0
check "the captioned stream plays to its end" run 60 gst-launch-1.0 -q -e \
  rtspsrc location="$url" protocols=tcp ! rtph264depay ! h264parse ! mp4mux \
  ! filesink location="$DIR/captioned.mp4"
check "the captioned stream has captions" has_caption "$DIR/captioned.mp4" 6
done_testing
