#!/bin/bash
# demo.sh [--window] [--seconds N] [--out DIR]
# The whole thing, from nothing: installs what is missing (as root), builds, plays a programme of
# its own as a live RTSP stream and has it described.  Captions are printed as they come; DIR
# (default: out/demo) gets demo.mp4 with the captions burned in, demo.vtt and demo.jsonl.
#   --window     also show it on the display
#   --seconds N  go on for N seconds (default: once through the programme, 30 seconds)
# Exit status 0 only if the expected captions came, 77 if packages are missing.
. "$(dirname "${BASH_SOURCE[0]}")/../tools/setup.sh"

PROGRAMME_SECONDS=30
out=$SOURCE_DIR/out/demo
play=$PROGRAMME_SECONDS
window=

help ()
{
  sed -n '2,/^[^#]/{s/^# \{0,1\}//p;}' "$0"
}

while [ $# -gt 0 ]; do
  case $1 in
    --window) window=yes ;;
    --seconds) play=${2-}; shift ;;
    --out) out=${2-}; shift ;;
    --help | -h) help; exit 0 ;;
    *) help >&2; exit 2 ;;
  esac
  [ $# -gt 0 ] && shift
done
case $play in '' | *[!0-9]*) fail "--seconds wants a number" ;; esac
[ "$play" -ge $PROGRAMME_SECONDS ] || fail "--seconds: the programme alone takes $PROGRAMME_SECONDS"
[ -n "$out" ] || fail "--out wants a folder"
[ -z "$window" ] || [ -n "${DISPLAY-}${WAYLAND_DISPLAY-}" ] || fail "--window: there is no display"

require_packages $BUILD_PACKAGES
build
. "$SOURCE_DIR/pipelines/env.sh"
mkdir -p "$out"
out=$(cd "$out" && pwd)
rm -f "$out"/demo.mp4 "$out"/demo.vtt "$out"/demo.jsonl

# The server prints its address once it listens, and lives no longer than this script.
loop=
[ "$play" -eq $PROGRAMME_SECONDS ] || loop=--loop
exec {server}< <(exec "$BUILD_DIR/tests/rtsp-server" --programme $loop --seconds $((play + 60)))
server_pid=$!
trap 'kill $server_pid 2>/dev/null || true' EXIT
read -r -t 20 -u "$server" url || fail "the RTSP server did not start"
echo "Describing $url for $play seconds"

# latency=1500: the model may take that long after a window's end; picture and text stay in sync
# behind it.  So the queue before textoverlay holds a window (2 s), that, and a margin.
# The stream ends by itself; timeout is for when something hangs, and ends a repeated programme.
display=
[ -z "$window" ] || display='shown. ! queue ! videoconvert ! autovideosink'
limit=$((play + 30))
[ -z "$loop" ] || limit=$play
status=0
# shellcheck disable=SC2086
timeout -s INT -k 30 $limit gst-launch-1.0 -q -e \
  rtspsrc location="$url" protocols=tcp latency=200 ! rtph264depay ! h264parse ! avdec_h264 \
  ! valleyinfer name=v latency=1500 stream-id=demo \
  ! queue max-size-time=6000000000 max-size-bytes=0 max-size-buffers=0 \
  ! textoverlay name=overlay font-desc="Sans 14" shaded-background=true shading-value=160 \
  ! tee name=shown \
  shown. ! queue ! videoconvert ! x264enc speed-preset=veryfast bitrate=1500 \
  ! video/x-h264,profile=main ! mp4mux ! filesink location="$out/demo.mp4" \
  $display \
  v.text_src_0 ! overlay.text_sink \
  v.text_src_1 ! webvttenc ! tee name=vtt \
  vtt. ! queue ! filesink location="$out/demo.vtt" buffer-mode=unbuffered sync=false async=false \
  vtt. ! queue ! fdsink fd=1 sync=false async=false \
  v.json_src ! filesink location="$out/demo.jsonl" buffer-mode=unbuffered sync=false async=false \
  | print_captions || status=$?
# 124 is the end of a repeated programme.
[ $status -eq 0 ] || { [ $status -eq 124 ] && [ -n "$loop" ]; } \
  || fail "the pipeline ended with status $status"

# The captions that must have come, in this order.
expected=('Color bars.' 'A SIZE COLOR SHAPE MOTION on a COLOR background.' 'Snow, no signal.'
  'A black screen.')
shape='^A (small|large) [a-z]+ (circle|square|triangle) (moves (left|right|up|down)|stays still)'
shape+=' on a [a-z]+ background\.$'
found=0
while IFS= read -r caption; do
  [ $found -lt ${#expected[@]} ] || break
  if [ "$caption" = "${expected[$found]}" ] \
    || { [ $found -eq 1 ] && [[ $caption =~ $shape ]]; }; then
    found=$((found + 1))
  fi
done <"$out/demo.vtt"

echo
echo "Captioned video  $out/demo.mp4"
echo "Subtitles        $out/demo.vtt"
echo "JSON lines       $out/demo.jsonl"
if [ $found -lt ${#expected[@]} ]; then
  echo "MISSING: \"${expected[$found]}\" did not come (in its place in the programme)." >&2
  exit 1
fi
echo "All expected captions came."
