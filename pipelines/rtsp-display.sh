#!/bin/bash
# rtsp-display.sh URL [PROPERTY=VALUE...]
# Shows a live RTSP stream on the display, captions burned in.  Set VIDEO_SINK to show it
# elsewhere (for example VIDEO_SINK=fakesink without a display).
. "$(dirname "$0")/env.sh"
[ $# -ge 1 ] || usage
url=$1
shift

# A camera may also send audio, hence media=video; decodebin picks the decoder.
# shellcheck disable=SC2086
gst-launch-1.0 -q -e \
  rtspsrc location="$url" latency=200 ! application/x-rtp,media=video ! decodebin \
  ! valleycaption "$@" ! videoconvert ! ${VIDEO_SINK:-autovideosink}
