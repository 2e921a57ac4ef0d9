# setup.sh - what both commands (pipelines/demo.sh and tests/run.sh) need before they can
# work: the one list of Debian packages, and the build.  Sourced by them, never run.
#
# Nothing here asks a question or calls sudo: root installs what is missing, everybody else
# is told the one apt-get line and gets exit status 77.
#
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash

SOURCE_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD_DIR=${VALLEY_BUILD_DIR:-$SOURCE_DIR/build}

# To build the plugin, and to play and caption a stream with it.  A font is named because
# nothing depends on one: textoverlay without a font draws nothing and says nothing.
BUILD_PACKAGES="gcc libc6-dev meson ninja-build pkgconf
  libdnnl-dev libjson-glib-dev libgdk-pixbuf-2.0-dev
  libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev libgstreamer-plugins-bad1.0-dev
  libgstrtspserver-1.0-dev
  gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good
  gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-libav gstreamer1.0-x
  fonts-dejavu-core"
# The tests also read the files back with a program that is not GStreamer, and compile the CUDA
# sources as C++.
TEST_PACKAGES="$BUILD_PACKAGES ffmpeg g++"

fail ()
{
  echo "$(basename "$0"): $*" >&2
  exit 1
}

# require_packages NAME... : returns only when all of them are there.
require_packages ()
{
  local name missing=
  if ! command -v dpkg-query >/dev/null; then
    echo "No dpkg here: taking it that the development packages of GStreamer, json-glib," \
      "gdk-pixbuf and oneDNN are installed." >&2
    return 0
  fi
  for name in "$@"; do
    case $(dpkg-query -W -f '${db:Status-Abbrev}' "$name" 2>/dev/null) in
      ii*) ;;
      *) missing="$missing $name" ;;
    esac
  done
  [ -n "$missing" ] || return 0

  if [ "$(id -u)" != 0 ]; then
    echo "Packages are missing. As root:" >&2
    echo "  apt-get install -y --no-install-recommends$missing" >&2
    exit 77
  fi
  echo "Installing$missing"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -q </dev/null || fail "apt-get update failed"
  # shellcheck disable=SC2086
  apt-get install -q -y --no-install-recommends $missing </dev/null \
    || fail "apt-get could not install$missing"
  installed=yes
}

# Configures BUILD_DIR once, and again when packages came that it may have looked for in vain, and
# compiles; ninja reconfigures by itself when a meson.build changes.
build ()
{
  # A terminal-less root of a container often has no locale; meson wants UTF-8.
  export LC_ALL=${LC_ALL:-C.UTF-8}
  if [ ! -f "$BUILD_DIR/build.ninja" ]; then
    meson setup "$BUILD_DIR" "$SOURCE_DIR" || fail "meson could not configure $BUILD_DIR"
  elif [ -n "${installed-}" ]; then
    meson setup --reconfigure "$BUILD_DIR" "$SOURCE_DIR" \
      || fail "meson could not configure $BUILD_DIR again"
  fi
  ninja -C "$BUILD_DIR" || fail "the build failed"
}
