#!/bin/bash
# webvtt-beside-mp4.sh FILE.mp4 [PROPERTY=VALUE...]
# Writes FILE.vtt next to FILE.mp4, where players look for it.  The video is only read.
. "$(dirname "$0")/env.sh"
[ $# -ge 1 ] || usage
file=$1
shift

# single-segment makes time stamps start at 0 (webvttenc writes them as they are); an unbuffered
# file shows every cue at once, others appear when 64 KiB have come together.
gst-launch-1.0 -q \
  filesrc location="$file" ! decodebin ! identity single-segment=true \
  ! valleyinfer name=v "$@" ! fakesink sync=false \
  v.text_src ! webvttenc ! filesink location="${file%.*}.vtt" buffer-mode=unbuffered sync=false
