# tap.sh - what the tests of the pipeline scripts share: TAP output, a folder of their own, a
# small clip whose captions are known, and questions to ffprobe.  Sourced, never run.
#
# The clip: color bars until 4 s, black until 8 s, so four windows of the default two seconds.
#
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
set -u

SOURCE_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
PIPELINES=$SOURCE_DIR/pipelines
BUILD_DIR=${VALLEY_BUILD_DIR:-$SOURCE_DIR/build}
if nm -D "$BUILD_DIR/model/libvalley.so" 2>/dev/null | grep -qE '__(asan|tsan)_'; then
  echo "1..0 # SKIP a sanitizer build cannot be loaded by plain programs"
  exit 0
fi
DIR=$(mktemp -d)
servers=
finish ()
{
  # shellcheck disable=SC2086
  [ -z "$servers" ] || kill $servers 2>/dev/null
  rm -rf "$DIR"
}
trap finish EXIT
trap 'exit 1' INT TERM

count=0
# check NAME COMMAND... : one test point; what the command printed explains a failure.
check ()
{
  local name=$1 log
  shift
  count=$((count + 1))
  if log=$("$@" 2>&1); then
    echo "ok $count - $name"
  else
    echo "not ok $count - $name"
    # shellcheck disable=SC2001
    echo "$log" | sed 's/^/# /'
  fi
}

done_testing ()
{
  echo "1..$count"
}

# is GOT WANTED
is ()
{
  [ "$1" = "$2" ] && return
  printf 'got:\n%s\nwanted:\n%s\n' "$1" "$2"
  return 1
}

# run SECONDS COMMAND... : a command that must end by itself, and well.
run ()
{
  local limit=$1 status
  shift
  timeout -k 5 "$limit" "$@" </dev/null
  status=$?
  [ $status -eq 0 ] && return
  echo "status $status (124: not done after $limit s): $*"
  return 1
}

make_clip ()
{
  local scene="video/x-raw,format=I420,width=320,height=240,framerate=25/1"
  run 60 gst-launch-1.0 -q concat name=c ! identity single-segment=true \
    ! x264enc speed-preset=veryfast bitrate=600 key-int-max=50 ! h264parse ! mp4mux \
    ! filesink location="$1" \
    videotestsrc pattern=smpte num-buffers=100 ! "$scene" ! c. \
    videotestsrc pattern=black num-buffers=100 ! "$scene" ! c.
}

# start_server ARGUMENT... : a stream on a free port; its address is then in $url.  It goes when
# this test goes, however that ends.
start_server ()
{
  local out
  exec {out}< <(exec timeout 120 "$@")
  servers="$servers $!"
  read -r -t 20 -u "$out" url || { echo "no address from $*"; return 1; }
}

# Start and end of every subtitle packet of a file, in milliseconds: "0 2000", one a line.
subtitle_times ()
{
  ffprobe -v error -select_streams s:0 -show_entries packet=pts_time,duration_time,size \
    -of csv=p=0 "$1" \
    | awk -F, '$3 > 2 { printf "%.0f %.0f\n", $1 * 1000, ($1 + $2) * 1000 }'
}

# The brightest luma in the lower third of the picture SECONDS into a file: captions are white.
caption_luma ()
{
  ffmpeg -v error -ss "$2" -i "$1" -frames:v 1 -vf "crop=iw:ih/3:0:ih*2/3" \
    -f rawvideo -pix_fmt gray - | od -An -v -tu1 -w1 | sort -n | tail -1 | tr -d ' '
}

has_caption ()
{
  local luma
  luma=$(caption_luma "$1" "$2")
  [ "${luma:-0}" -ge 180 ] && return
  echo "the brightest luma of the lower third of $1 at $2 s is ${luma:-unknown}: no caption"
  return 1
}

has_no_caption ()
{
  local luma
  luma=$(caption_luma "$1" "$2")
  [ "${luma:-255}" -le 40 ] && return
  echo "the brightest luma of the lower third of $1 at $2 s is ${luma:-unknown}"
  return 1
}
