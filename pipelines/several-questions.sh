#!/bin/bash
# several-questions.sh FILE QUESTION...
# Asks several questions about every window; the frames are computed once for all of them.  One
# JSON object a line for each question and window; "prompt_id" says which question it answers.
. "$(dirname "$0")/env.sh"
[ $# -ge 2 ] || usage
file=$1
shift

# quoted TEXT: as gst-launch-1.0 reads it, and as a string in a GStreamer array is written.
quoted ()
{
  local text=${1//\\/\\\\}
  echo "\"${text//\"/\\\"}\""
}
list=
for question; do
  list+=${list:+,}$(quoted "$question")
done

gst-launch-1.0 -q \
  filesrc location="$file" ! decodebin ! valleyinfer name=v prompts="$(quoted "<$list>")" \
  ! fakesink sync=false \
  v.json_src ! fdsink fd=1 sync=false
