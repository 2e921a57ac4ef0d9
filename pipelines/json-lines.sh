#!/bin/bash
# json-lines.sh FILE [PROPERTY=VALUE...]
# One JSON object a line on standard output for every window: answer, times, confidence, token
# counts, timings.  For example: json-lines.sh a.mp4 | jq -r '[.start_time, .result] | @tsv'
. "$(dirname "$0")/env.sh"
[ $# -ge 1 ] || usage
file=$1
shift

gst-launch-1.0 -q \
  filesrc location="$file" ! decodebin ! valleyinfer name=v "$@" ! fakesink sync=false \
  v.json_src ! fdsink fd=1 sync=false
