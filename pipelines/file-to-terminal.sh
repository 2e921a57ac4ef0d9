#!/bin/bash
# file-to-terminal.sh FILE [PROPERTY=VALUE...]
# Describes a video file: each caption with its time on the terminal, as soon as it is known.
# Properties are valleyinfer's, e.g. model-path=DIR or prompt="Is there a red circle?".
. "$(dirname "$0")/env.sh"
[ $# -ge 1 ] || usage
file=$1
shift

# single-segment makes time stamps start at 0 (webvttenc writes them as they are).
gst-launch-1.0 -q \
  filesrc location="$file" ! decodebin ! identity single-segment=true \
  ! valleyinfer name=v "$@" ! fakesink sync=false \
  v.text_src ! webvttenc ! fdsink fd=1 sync=false | print_captions
