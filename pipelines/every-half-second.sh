#!/bin/bash
# every-half-second.sh FILE [PROPERTY=VALUE...]
# Says twice a second what the last two seconds showed.  Windows overlap, and what they share is
# computed once; window-policy=sliding shows the model just these two seconds, and no more.
. "$(dirname "$0")/env.sh"
[ $# -ge 1 ] || usage
file=$1
shift

# single-segment makes time stamps start at 0 (webvttenc writes them as they are).
gst-launch-1.0 -q \
  filesrc location="$file" ! decodebin ! identity single-segment=true \
  ! valleyinfer name=v chunk-duration=2000 chunk-overlap=1500 "$@" ! fakesink sync=false \
  v.text_src ! webvttenc ! fdsink fd=1 sync=false | print_captions
