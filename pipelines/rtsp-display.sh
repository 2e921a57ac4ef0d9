#!/bin/bash
# rtsp-display.sh URL [PROPERTY=VALUE...]
# Shows a live RTSP stream on the display, captions burned in.  Set VIDEO_SINK to show it
# elsewhere (for example VIDEO_SINK=fakesink without a display).
. "$(dirname "$0")/env.sh"
[ $# -ge 1 ] || usage
url=$1
shift

# decodebin picks the decoder; the picture itself is never held up by the model.
# shellcheck disable=SC2086
gst-launch-1.0 -q -e \
  rtspsrc location="$url" latency=200 ! decodebin ! valleycaption "$@" \
  ! videoconvert ! ${VIDEO_SINK:-autovideosink}
