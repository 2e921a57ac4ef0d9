#!/bin/bash
# test-cuda-setup.sh - `meson setup` on a machine that has all that the CUDA wing is built of, and
# on one that lacks cuBLASLt (TAP).  Empty files stand in for that library: nothing is compiled, as
# cuda-spills.sh compiles the kernels and the emulated wing the rest.
#
# SPDX-License-Identifier: Apache-2.0
. "$(dirname "$0")/../pipelines/tap.sh"

if ! command -v nvcc /usr/local/cuda/bin/nvcc >/dev/null; then
  echo "1..0 # SKIP no nvcc here"
  exit 0
fi

mkdir -p "$DIR/cublas/include" "$DIR/cublas/lib"
touch "$DIR/cublas/include/cublasLt.h" "$DIR/cublas/lib/libcublasLt.so.13"

# set_up NAME OPTION... : what meson said.
set_up ()
{
  local name=$1
  shift
  run 120 meson setup "$DIR/$name" "$SOURCE_DIR" "$@" >"$DIR/$name.log" 2>&1 && return
  tail -n 20 "$DIR/$name.log"
  return 1
}

# targets NAME ... : the files of that name which the build makes.
targets ()
{
  meson introspect "$DIR/$1" --targets | python3 -c 'import json, sys
names = [f.split("/")[-1] for t in json.load(sys.stdin) for f in t["filename"]]
print(*[n for n in sys.argv[1:] if n in names])' "${@:2}"
}

check "with cuBLASLt it is set up" set_up all -Dcuda=enabled -Dcublas-path="$DIR/cublas"
check "and makes the wing" is "$(targets all libvalley-cuda.so product_few.o)" "libvalley-cuda.so product_few.o"
check "so it is for one architecture" set_up one -Dcuda=enabled -Dcublas-path="$DIR/cublas" -Dcuda-architectures=90
check "and without the wing" set_up none -Dcuda=disabled
check "which then is not made" is "$(targets none libvalley-cuda.so libvalley-cuda-emu.so)" "libvalley-cuda-emu.so"

# Only where none lies beside nvcc.
if ! grep -q 'CUDA wing *: YES' <(meson setup "$DIR/auto" "$SOURCE_DIR" 2>&1); then
  lacking ()
  {
    ! set_up lacking -Dcuda=enabled >/dev/null && grep -F 'the CUDA wing needs cublasLt.h, libcublasLt' "$DIR/lacking.log"
  }
  check "without cuBLASLt the error names it" lacking
fi
done_testing
