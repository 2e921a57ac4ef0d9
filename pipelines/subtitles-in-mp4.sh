#!/bin/bash
# subtitles-in-mp4.sh FILE OUT.mp4 [PROPERTY=VALUE...]
# Adds the captions as a subtitle track that a player can switch on and off.
. "$(dirname "$0")/env.sh"
[ $# -ge 2 ] || usage
file=$1 out=$2
shift 2

# mp4mux takes no video while it waits for the next caption, and there is none before the
# window's last frame has passed valleyinfer: the queue must be able to hold it all.
gst-launch-1.0 -q -e \
  filesrc location="$file" ! decodebin ! valleyinfer name=v "$@" \
  ! videoconvert ! x264enc speed-preset=veryfast ! h264parse \
  ! queue max-size-time=0 max-size-bytes=0 max-size-buffers=0 ! mp4mux name=mux \
  ! filesink location="$out" \
  v.text_src ! mux.
