#!/bin/bash
# test-install.sh - `meson install` puts everything in place and it works from there (TAP):
# GStreamer finds the plugin, the plugin its model, a C program valley.pc.  `meson devenv` too.
#
# SPDX-License-Identifier: Apache-2.0
. "$(dirname "$0")/pipelines/tap.sh"

check "meson install runs" run 60 env DESTDIR="$DIR/root" \
  meson install -C "$BUILD_DIR" --no-rebuild --quiet
prefix=$DIR/root$(meson introspect "$BUILD_DIR" --buildoptions \
  | python3 -c 'import json, sys
print(*[o["value"] for o in json.load(sys.stdin) if o["name"] == "prefix"])')

# installed NAME : exactly one file or link of that name (a path's end) is there.
installed ()
{
  local found
  found=$(find "$prefix" -path "*/$1")
  [ "$(echo "$found" | grep -c .)" -eq 1 ] && return
  echo "$1 is here: ${found:-nowhere}"
  return 1
}
for name in libvalley.so.0 pkgconfig/valley.pc include/valley/valley.h \
  gstreamer-1.0/libgstvalley.so bin/valley share/valley/valley-tiny/config.json \
  share/valley/valley-tiny/model.safetensors share/valley/valley-tiny/tokenizer.json; do
  check "$name is installed" installed "$name"
done

# From here on only the installed tree may be found.
libdir=$(dirname "$(find "$prefix" -name libvalley.so.0)")
export LD_LIBRARY_PATH=$libdir
export GST_PLUGIN_PATH=$libdir/gstreamer-1.0
export GST_REGISTRY=$DIR/registry.bin
unset VALLEY_MODEL_DIR

inspect ()
{
  gst-inspect-1.0 "$1" | grep -F "$libdir/gstreamer-1.0/libgstvalley.so"
}
check "gst-inspect-1.0 finds valleyinfer there" inspect valleyinfer
check "gst-inspect-1.0 finds valleycaption there" inspect valleycaption

describe_bars ()
{
  timeout 60 gst-launch-1.0 -q videotestsrc num-buffers=50 \
    ! video/x-raw,width=320,height=240,framerate=25/1 ! valleyinfer name=v ! fakesink \
    v.text_src ! fdsink fd=1 </dev/null
}
check "the element finds its model there" is "$(describe_bars 2>&1)" "Color bars."

build_program ()
{
  mkdir -p "$DIR/pc"
  sed "s|^prefix=.*|prefix=$prefix|" "$libdir/pkgconfig/valley.pc" >"$DIR/pc/valley.pc"
  cat >"$DIR/program.c" <<'PROGRAM'
#include <valley/valley.h>
int
main (void)
{
  char *dir = valley_default_model_dir ();
  GError *error = NULL;
  ValleyModel *model = dir ? valley_model_open (dir, NULL, &error) : NULL;
  if (!model) {
    g_printerr ("%s: %s\n", dir, error ? error->message : "no bundled model");
    return 1;
  }
  g_print ("%s\n%s\n", valley_version (), dir);
  valley_model_unref (model);
  g_free (dir);
  return 0;
}
PROGRAM
  # shellcheck disable=SC2046
  cc -Wall -Werror -o "$DIR/program" "$DIR/program.c" \
    $(PKG_CONFIG_PATH=$DIR/pc pkg-config --cflags --libs valley)
}
check "a program compiles against valley.pc" build_program
check "and finds the installed model" is "$("$DIR/program" 2>&1)" \
  "$(sed -n 's/^Version: //p' "$libdir/pkgconfig/valley.pc")
$prefix/share/valley/valley-tiny"

unset LD_LIBRARY_PATH GST_PLUGIN_PATH GST_REGISTRY
check "meson devenv has the element" run 60 meson devenv -C "$BUILD_DIR" \
  gst-inspect-1.0 --exists --atleast-version=0.1 valleyinfer
check "meson devenv has the command" run 60 meson devenv -C "$BUILD_DIR" valley --version
done_testing
