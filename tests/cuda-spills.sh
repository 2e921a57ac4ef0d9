#!/bin/bash
# cuda-spills.sh - compiles every CUDA source for every GPU generation that is named to users
# (TAP): no warning, and no kernel whose registers spill to memory.  NVCC names the compiler.
# Where the wing was built, VALLEY_CUDA_LOGS names the folder with what the compiler said then.
#
# SPDX-License-Identifier: Apache-2.0
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

architectures="80 86 89 90 100 120"
sources=(${VALLEY_CUDA_SOURCES:-cuda/*.cu})

find_nvcc ()
{
  local candidate
  for candidate in "${NVCC:-}" nvcc /usr/local/cuda/bin/nvcc; do
    [ -n "$candidate" ] && command -v "$candidate" && return
  done
}

nvcc=$(find_nvcc)
if [ -z "$nvcc" ]; then
  echo "1..0 # SKIP no nvcc here (set NVCC)"
  exit 0
fi

codes=
for sm in $architectures; do
  codes="$codes -gencode arch=compute_$sm,code=sm_$sm"
done
# what newer ones translate for themselves
codes="$codes -gencode arch=compute_120,code=compute_120"

object=$(mktemp --suffix=.o)
trap 'rm -f "$object"' EXIT

# compile SOURCE: what nvcc says.
compile ()
{
  local kept
  kept=${VALLEY_CUDA_LOGS:-}/$(basename "$1" .cu).log
  if [ -n "${VALLEY_CUDA_LOGS:-}" ] && [ "$kept" -nt "$1" ]; then
    cat "$kept"
    return
  fi
  # shellcheck disable=SC2086
  "$nvcc" -std=c++17 -O3 --threads 2 $codes -Xptxas -v -Xcompiler -Wall,-Wextra -c "$1" -o "$object" 2>&1
}

# problem_in SOURCE: in words; nothing when all is well.
problem_in ()
{
  local log n_kernels n_told n_needed
  if ! log=$(compile "$1"); then
    echo "does not compile: $log"
    return
  fi
  grep -iE '(^|[^a-z])(warning|error)' <<<"$log"
  # each kernel has a line of its own for each architecture; the one before it names the kernel
  grep -B1 -E '[1-9][0-9]* bytes spill (stores|loads)' <<<"$log"
  # ... once it has named it; a source that only chooses among others' kernels has none
  n_kernels=$(grep -c 'Compiling entry function' <<<"$log")
  n_told=$(grep -c 'bytes spill stores' <<<"$log")
  [ "$n_told" -ge "$n_kernels" ] || echo "ptxas told of $n_told of $n_kernels kernels only"
  n_needed=$(wc -w <<<"$architectures")
  [ "$(grep -c 'bytes gmem' <<<"$log")" -ge "$n_needed" ] || echo "ptxas was not run for each GPU"
  if grep -q __global__ "$1" && [ "$n_kernels" -lt "$n_needed" ]; then
    echo "ptxas told of $n_kernels kernels only"
  fi
}

echo "1..${#sources[@]}"
plan=0
for source in "${sources[@]}"; do
  plan=$((plan + 1))
  problem=$(problem_in "$source")
  if [ -z "$problem" ]; then
    echo "ok $plan - $source"
  else
    echo "not ok $plan - $source"
    sed 's/^/# /' <<<"$problem"
  fi
done
