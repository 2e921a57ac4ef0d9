#!/bin/bash
# layering.sh - who may include whom (TAP): the plugin and the command line know only valley.h,
# the engine knows neither GStreamer nor CUDA, the stages do not know each other, and only
# gemm_dnnl.c knows oneDNN.
#
# SPDX-License-Identifier: Apache-2.0
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

plan=0
# expect_none NAME PATTERN FILE... : no file has an #include whose target matches PATTERN.
expect_none ()
{
  local name=$1 pattern=$2 found
  shift 2
  plan=$((plan + 1))
  if [ $# -eq 0 ]; then
    echo "not ok $plan - $name"
    echo "# no file to look at: this test looks in the wrong place"
    return
  fi
  found=$(grep -nHE "^[[:space:]]*#[[:space:]]*include[[:space:]]*[<\"]($pattern)[>\"]" "$@")
  if [ -n "$found" ]; then
    echo "not ok $plan - $name"
    echo "$found" | sed 's/^/# /'
  else
    echo "ok $plan - $name"
  fi
}

# Headers of the engine that are not its public one, as an alternation.
private=$(cd model && ls ./*.h cpu/*.h 2>/dev/null | sed 's|.*/||' | grep -vx 'valley\.h' \
  | sed 's|\.|\\.|g' | paste -sd'|')

shopt -s nullglob
expect_none "gst/ includes only valley.h of the engine" "(.*/)?($private|cpu/.*)" gst/*.[ch]
expect_none "tools/ includes only valley.h of the engine" "(.*/)?($private|cpu/.*)" tools/*.[ch]
expect_none "tools/ includes no GStreamer" "gst/.*" tools/*.[ch]
expect_none "model/ includes no GStreamer" "gst/.*" model/*.[ch] model/*/*.[ch]
expect_none "model/ includes no CUDA" "(.*/)?(cuda.*|cublas.*|nv.*)" model/*.[ch] model/*/*.[ch]
expect_none "kernels reach CUDA only through launch.h" "(.*/)?(cuda.*|cublas.*|crt/.*)" cuda/*.cu \
  $(ls cuda/*.h | grep -vE '/(launch|gpu)\.h$')
expect_none "kernels know nothing of the backend" "(.*/)?(gpu|backend|wing|valley)\.h" cuda/*.cu
# The wing's host side knows the table and what crosses; picture.h is a name that both have.
foreign=$(tr '|' '\n' <<<"$private" | grep -vxE '(backend|wing|picture_ops|picture|video_kernels)\\.h' \
  | paste -sd'|')
expect_none "cuda/ includes only backend.h and the like of the engine" "(.*/)?($foreign|valley\.h)" cuda/*
expect_none "cuda/ includes no GStreamer" "gst/.*" cuda/*
expect_none "model/ includes nothing of gst/" "(.*/)?(valleyinfer|window|picture|textpad|result|worker)\.h" \
  model/*.[ch] model/*/*.[ch]
others=()
for file in model/*.[ch] model/*/*.[ch] gst/*.[ch] tools/*.[ch]; do
  [ "$file" = model/cpu/gemm_dnnl.c ] || others+=("$file")
done
expect_none "only gemm_dnnl.c includes oneDNN" "(oneapi/)?(dnnl/)?dnnl.*\.h.*" "${others[@]}"

# The stages are joined by valley.c; what passes between them (tensors, the KV cache) are arguments.
stages="siglip qwen2vit connector compressor decoder sampler"
sources_without ()
{
  local stage file
  for stage in $stages; do
    for file in model/$stage.c model/$stage.h; do
      [ "$stage" = "$1" ] || [ ! -f $file ] || echo $file
    done
  done
}
# shellcheck disable=SC2046
expect_none "stages reach the CPU only through backend.h" "(.*/)?(cpu/.*|kernels.*|dnnl.*)" \
  $(sources_without none)
for stage in $stages; do
  [ -f model/$stage.h ] || continue
  # shellcheck disable=SC2046
  expect_none "no other stage includes $stage.h" "(.*/)?$stage\.h" $(sources_without $stage)
done
expect_none "window.c is GLib only" "gst/.*" gst/window.[ch]

# One place gives out file-sized memory, so that test-allocation.c reaches every failure of it.
plan=$((plan + 1))
found=$(grep -nE "g_try_(new|malloc|realloc|renew)|posix_memalign|aligned_alloc" model/*.c model/*/*.c \
  | grep -v "^model/alloc\.c:")
if [ -z "$found" ] && grep -q g_try_malloc model/alloc.c; then
  echo "ok $plan - file-sized memory comes from alloc.c"
else
  echo "not ok $plan - file-sized memory comes from alloc.c"
  echo "$found" | sed 's/^/# /'
fi
echo "1..$plan"
