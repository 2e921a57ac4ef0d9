#!/bin/bash
# captions-burned-in.sh FILE OUT.mp4 [PROPERTY=VALUE...]
# Burns the captions into the picture.  valleycaption is a whole captioner in one element: it
# holds the picture back until its caption is known, so nothing else needs to be known about time.
. "$(dirname "$0")/env.sh"
[ $# -ge 2 ] || usage
file=$1 out=$2
shift 2

gst-launch-1.0 -q -e \
  filesrc location="$file" ! decodebin \
  ! valleycaption "$@" ! videoconvert ! x264enc speed-preset=veryfast ! mp4mux \
  ! filesink location="$out"
