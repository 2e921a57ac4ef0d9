#!/bin/bash
# subtitles-in-mkv.sh FILE OUT.mkv [PROPERTY=VALUE...]
# Adds the captions as a subtitle track of a Matroska file.
. "$(dirname "$0")/env.sh"
[ $# -ge 2 ] || usage
file=$1 out=$2
shift 2

# The muxer waits for a window's caption: the queue holds that long a window and more (raise it
# with chunk-duration).
gst-launch-1.0 -q -e \
  filesrc location="$file" ! decodebin ! valleyinfer name=v "$@" \
  ! videoconvert ! x264enc speed-preset=veryfast ! h264parse \
  ! queue max-size-time=60000000000 max-size-bytes=0 max-size-buffers=0 ! matroskamux name=mux \
  ! filesink location="$out" \
  v.text_src ! mux.
