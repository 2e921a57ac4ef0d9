# env.sh - what the example pipelines share: where the plugin is, how to print captions.
# Sourced by them, never run.
#
# In a source tree the freshly built plugin is used (as in `meson devenv -C build`); without a
# build the installed one.
#
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
set -eu -o pipefail

SOURCE_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD_DIR=${VALLEY_BUILD_DIR:-$SOURCE_DIR/build}
if [ -d "$BUILD_DIR/gst" ]; then
  export GST_PLUGIN_PATH=$BUILD_DIR/gst${GST_PLUGIN_PATH:+:$GST_PLUGIN_PATH}
  export GST_REGISTRY=${GST_REGISTRY:-$BUILD_DIR/registry.bin}
fi

# Without a version --exists asks for GStreamer's own.
if ! gst-inspect-1.0 --exists --atleast-version=0.1 valleyinfer; then
  echo "$(basename "$0"): the element valleyinfer is neither built in $BUILD_DIR nor installed." >&2
  echo "Build it: meson setup build && ninja -C build (or run pipelines/demo.sh)" >&2
  exit 1
fi

# The header of a script is its help: everything between the first line and the first code.
usage ()
{
  sed -n '2,/^[^#]/{s/^# \{0,1\}//p;}' "$0" >&2
  exit 2
}

# 00:01:02.345 -> 01:02.3 (hours only when there are any)
short_time ()
{
  local time=${1#00:}
  echo "${time%??}"
}

# Reads WebVTT and prints every cue as it comes: "00:04.0 → 00:06.0  Color bars."
# (A shell loop because awk would hold the lines back until its buffer is full.)
print_captions ()
{
  local line start= end=
  while IFS= read -r line; do
    case $line in
      *' --> '*)
        start=$(short_time "${line%% *}")
        end=${line#* --> }
        end=$(short_time "${end%% *}")
        ;;
      WEBVTT* | '') ;;
      *) printf '%s → %s  %s\n' "$start" "$end" "$line" ;;
    esac
  done
}
