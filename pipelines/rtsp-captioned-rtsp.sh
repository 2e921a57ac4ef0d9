#!/bin/bash
# rtsp-captioned-rtsp.sh URL [PORT [PROPERTY=VALUE...]]
# Takes a live RTSP stream and serves it again on this machine with captions burned in, at the
# address that is printed (default port 8554).  The source is read only while somebody watches.
. "$(dirname "$0")/env.sh"
[ $# -ge 1 ] || usage
url=$1 port=${2:-8554}
shift $(($# < 2 ? $# : 2))

# The arguments become part of a pipeline description: quote them for it.
quote ()
{
  local text=${1//\\/\\\\}
  printf '"%s"' "${text//\"/\\\"}"
}
properties=
for property in "$@"; do
  properties="$properties ${property%%=*}=$(quote "${property#*=}")"
done

exec "$BUILD_DIR/tests/rtsp-server" --port "$port" --launch "
  rtspsrc location=$(quote "$url") latency=200 ! application/x-rtp,media=video ! decodebin
  ! valleycaption $properties ! videoconvert ! video/x-raw,format=I420
  ! x264enc tune=zerolatency speed-preset=veryfast bitrate=2000 key-int-max=50
  ! rtph264pay name=pay0 pt=96 config-interval=1"
