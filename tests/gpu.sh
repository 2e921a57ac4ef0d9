#!/bin/bash
# gpu.sh - everything there is to know of a GPU, on a machine that has one, and perhaps neither
# network nor GStreamer.
#
#   tests/gpu.sh pack DIR [BUILD]   here: DIR/valley-gpu.tar.gz, with all that `run` needs
#   tests/gpu.sh run [DIR] [OUT]    there: DIR/valley-gpu.tar.gz (default: beside this script) is
#                                   unpacked, tested and measured; OUT (default: gpu.json) tells all
#
# BUILD (default: build) has the wing.  Tests of kernels are compiled here, with nvcc (NVCC) and
# cuBLASLt's header (CUBLAS: a folder with include/cublasLt.h and lib/), for the architectures in
# VALLEY_GPU_ARCHITECTURES.  With VALLEY_GPU_EMULATED=1 everything runs over tests/cuda-emu instead, to
# try the script out.  Every part has a time limit, and the next goes on where one fails; all of it takes
# less than eight minutes.  Exit status 1 when a test failed; times decide nothing.
#
# SPDX-License-Identifier: Apache-2.0
set -u

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

fail ()
{
  echo "gpu.sh: $1" >&2
  exit 2
}

# ---- here ----

# The engine's own tests that say something of every device: those which the suite runs on the emulated
# one (cuda-* in tests/meson.build), so that what fails on a GPU has passed there.
engine_tests="ops connector golden windows-exact kvcache decoder streaming compressor family reduced redundancy
  session-windows pick checkpoint random draft engine"
# With kernels called directly.
kernel_tests="cuda-twins cuda-ops cuda-products cuda-attention cuda-rotary cuda-pick cuda-picture"
architectures=${VALLEY_GPU_ARCHITECTURES:-80 86 89 90 100 120}

# Libraries of a program that no machine can be expected to have.
libraries_of ()
{
  ldd "$@" | awk '$2 == "=>" && $3 ~ /^\// {print $3}' | sort -u \
    | grep -vE '/(libc|libm|libdl|libpthread|librt|libstdc\+\+|libgcc_s|ld-linux[^/]*|libcuda|libcublas[^/]*)\.so'
}

# copy_libraries TO PROGRAM... : as they were built, where they find their own.
copy_libraries ()
{
  local to=$1 library
  shift
  for library in $(libraries_of "$@" "$to"/bin/*); do
    [ -e "$to/lib/$(basename "$library")" ] || cp -L "$library" "$to/lib/"
  done
}

# copy_program TO BUILD NAME : the test of that name.
copy_program ()
{
  local candidate
  for candidate in "$2/tests/cuda-emu/test-$3" "$2/tests/cuda-emu/$3" "$2/tests/gpu/$3" "$2/tests/test-$3"; do
    [ -x "$candidate" ] && cp "$candidate" "$1/bin/$3" && return
  done
  echo "gpu.sh: no $3 in $2: it is left out" >&2
}

# compile_programs TO BUILD : tests of kernels, and bench-products.
compile_programs ()
{
  local to=$1 build=$2 nvcc toolkit flags libraries codes="" sm objects name source
  nvcc=$(command -v "${NVCC:-nvcc}" || command -v /usr/local/cuda/bin/nvcc) || fail "no nvcc here (set NVCC)"
  for toolkit in "$(dirname "$(dirname "$(readlink -f "$nvcc")")")" /usr/local/cuda; do
    [ -e "$toolkit/include/cuda_runtime.h" ] && break
  done
  [ -e "${CUBLAS:-$toolkit}/include/cublasLt.h" ] || fail "no ${CUBLAS:-$toolkit}/include/cublasLt.h (set CUBLAS)"
  for sm in $architectures; do
    codes="$codes -gencode arch=compute_$sm,code=sm_$sm"
  done
  codes="$codes -gencode arch=compute_$sm,code=compute_$sm"
  flags="-O2 -std=gnu11 -I$here/../cuda -I$here/../model -I$here/../model/cpu -I$toolkit/include
    -I${CUBLAS:-$toolkit}/include $(pkg-config --cflags gio-2.0 json-glib-1.0)"
  libraries="$build/model/libvalley-internal.a -L$toolkit/lib64 -lcudart_static -lrt -ldl -lpthread $(cublas_library "$toolkit")
    $(pkg-config --libs gio-2.0 json-glib-1.0) -ldnnl -lgomp -lm"
  objects=$(mktemp -d)
  # shellcheck disable=SC2086
  {
    for source in "$here"/../cuda/*.cu; do
      "$nvcc" -std=c++17 -O3 --compress-mode=size --threads 2 $codes -c "$source" -o "$objects/$(basename "$source" .cu).o" || fail "cannot compile $source"
    done
    for name in blas linear; do
      cc $flags -c "$here/../cuda/$name.c" -o "$objects/$name.o" || fail "cannot compile cuda/$name.c"
    done
    for name in $kernel_tests bench-products; do
      source=$here/cuda-emu/test-$name.c
      [ $name = bench-products ] && source=$here/gpu/$name.c
      [ $name = cuda-twins ] && continue
      cc $flags -c "$source" -o "$objects/main" || fail "cannot compile $source"
      c++ -o "$to/bin/$name" "$objects/main" "$objects"/*.o $libraries || fail "cannot link $name"
    done
    "$nvcc" -std=c++17 -O2 --compress-mode=size $codes -I"$here/../cuda" "$here/cuda-twins.cu" -o "$to/bin/cuda-twins" || fail "cannot compile cuda-twins.cu"
  }
  rm -rf "$objects"
}

# Wheels have no unversioned name for the linker.
cublas_library ()
{
  find -L "${CUBLAS:-$1}"/lib "${CUBLAS:-$1}"/lib64 -maxdepth 1 -name 'libcublasLt.so*' 2>/dev/null | head -n 1
}

pack ()
{
  local to=$1 build=$2 stage wing name
  stage=$(mktemp -d)
  wing=$build/cuda/libvalley-cuda.so
  [ -n "${VALLEY_GPU_EMULATED:-}" ] && wing=$build/tests/cuda-emu/libvalley-cuda-emu.so
  [ -e "$wing" ] || fail "no $wing; expected a build with it (meson setup $build -Dcuda=enabled)"
  mkdir -p "$stage/bin" "$stage/lib" "$to"
  for name in $engine_tests; do
    copy_program "$stage" "$build" "$name"
  done
  if [ -n "${VALLEY_GPU_EMULATED:-}" ]; then
    for name in $kernel_tests bench-products; do
      copy_program "$stage" "$build" "$name"
    done
  else
    compile_programs "$stage" "$build"
  fi
  cp "$build/tools/valley" "$stage/bin/"
  cp -L "$build/model/libvalley.so.0" "$stage/lib/"
  cp "$wing" "$stage/lib/wing.so"
  copy_libraries "$stage" "$wing" "$build/tools/valley" "$build/model/libvalley.so.0"
  strip --strip-unneeded "$stage"/lib/*.so* "$stage"/bin/* 2>/dev/null
  cp -r "$here/golden" "$here/../assets/valley-tiny" "$stage/"
  cp "$here/gpu/valley2-7b.json" "$stage/"
  cp "$here/gpu.sh" "$to/"
  [ -n "${VALLEY_GPU_EMULATED:-}" ] && touch "$stage/emulated"
  tar -C "$stage" -czf "$to/valley-gpu.tar.gz" . || fail "cannot write $to/valley-gpu.tar.gz"
  rm -rf "$stage"
  ls -l "$to/valley-gpu.tar.gz"
}

# ---- there ----

# cuBLASLt may lie with the toolkit, or come with somebody's Python.
find_cublas ()
{
  local folder
  for folder in /usr/local/cuda/lib64 /usr/local/cuda-*/lib64 /usr/lib/x86_64-linux-gnu \
    $(python3 -c 'import sys; print("\n".join(p + s for p in sys.path if p for s in ("/nvidia/cu13/lib", "/nvidia/cublas/lib")))' 2>/dev/null); do
    if ls "$folder"/libcublasLt.so.* >/dev/null 2>&1; then
      echo "$folder"
      return
    fi
  done
}

json_string ()
{
  printf '"%s"' "$(printf '%s' "$1" | tr -d '\000-\010\013-\037' | sed 's/\\/\\\\/g; s/"/\\"/g; s/\t/\\t/g' | awk '{printf "%s%s", n++ ? "\\n" : "", $0}')"
}

n_failed=0
results=()

# limited SECONDS COMMAND... : in the unpacked folder, at most so long and until $end_at.
limited ()
{
  local limit=$1 left=$((end_at - SECONDS))
  shift
  [ $left -gt 0 ] || return 124
  (cd "$work" && timeout -k 5 $((limit < left ? limit : left)) "$@") </dev/null
}

# part NAME SECONDS COMMAND... : a test program (TAP), or a tool that says by its status.
part ()
{
  local name=$1 limit=$2 log=$work/log/$1 status start passed failed skipped verdict
  shift 2
  start=$SECONDS
  limited "$limit" "$@" >"$log" 2>&1
  status=$?
  passed=$(grep -cE '^ok ' "$log")
  skipped=$(grep -cE '^ok .*# SKIP' "$log")
  failed=$(grep -cE '^not ok |^Bail out!' "$log")
  case $status in
    0) verdict=passed; [ "$failed" -gt 0 ] && verdict=failed ;;
    124 | 137) verdict=timeout ;;
    *) verdict=failed ;;
  esac
  [ $verdict = passed ] || n_failed=$((n_failed + 1))
  printf '%-32s %-8s %4d ok %3d not ok %3d skipped %4d s\n' "$name" $verdict "$passed" "$failed" "$skipped" $((SECONDS - start))
  [ $verdict = passed ] || tail -n 15 "$log" | sed 's/^/    /'
  results+=("{\"part\": $(json_string "$name"), \"verdict\": \"$verdict\", \"passed\": $passed, \"failed\": $failed, \"skipped\": $skipped, \"status\": $status, \"seconds\": $((SECONDS - start)), \"end\": $([ $verdict = passed ] && echo null || json_string "$(tail -n 15 "$log")")}")
}

# figure NAME SECONDS COMMAND... : prints one JSON object; a failure is told and is no test's.
figure ()
{
  local name=$1 limit=$2 status
  shift 2
  echo "measuring: $name"
  limited "$limit" "$@" >"$work/$name.json" 2>"$work/log/$name"
  status=$?
  if [ $status -eq 0 ]; then
    figures+=("$(json_string "$name"): $(cat "$work/$name.json")")
  else
    figures+=("$(json_string "$name"): {\"error\": $(json_string "status $status: $(tail -n 5 "$work/log/$name")")}")
    tail -n 5 "$work/log/$name" | sed 's/^/    /'
  fi
}

run_tests ()
{
  local name
  for name in "$@"; do
    has "$name" && part "$name" 60 "bin/$name"
  done
}

has ()
{
  [ -x "$work/bin/$1" ]
}

sanitize ()
{
  local tool name sanitizer
  sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
  [ -e "$work/emulated" ] && return
  if [ -z "$sanitizer" ]; then
    results+=('{"part": "compute-sanitizer", "verdict": "skipped", "end": "not found"}')
    return
  fi
  for tool in memcheck racecheck synccheck initcheck; do
    for name in cuda-attention cuda-ops; do
      has $name && part "$tool-$name" 30 "$sanitizer" --tool $tool --error-exitcode 86 "bin/$name"
    done
  done
}

machine ()
{
  local fields=name,driver_version,memory.total,clocks.max.sm,clocks.max.mem,clocks.sm,clocks.mem,power.limit,temperature.gpu
  if [ -e "$work/emulated" ]; then
    echo '"an emulator: its times mean nothing"'
  else
    json_string "$(nvidia-smi --query-gpu=$fields --format=csv 2>&1)"
  fi
}

# value KEY FILE : of a flat member; the first one.
value ()
{
  sed -n "s/.*\"$1\": \([0-9.]*\).*/\1/p" "$2" | head -n 1
}

# stage_value STAGE KEY : of bench-products' stages.
stage_value ()
{
  grep "\"stage\": \"$1\", \"library_ms\"" "$work/products.json" | sed -n "s/.*\"$2\": \([0-9.]*\).*/\1/p"
}

# What comes in, or 0 for nothing at all: the report stays JSON where a figure is missing.
or_zero ()
{
  awk '{ print; n++ } END { if (n == 0) print 0 }'
}

# In parentheses: after printf, awk takes a bare ">" for a file.
ratio ()
{
  awk -v a="${1:-0}" -v b="${2:-0}" 'BEGIN { printf "%.4f", (b > 0 ? a / b : 0) }'
}

# The bars, each beside what was measured in the same minutes.
bars ()
{
  local engine=$work/engine.json
  [ -s "$work/products.json" ] && [ -s "$engine" ] || { echo null; return; }
  cat <<JSON
{"prefill_share_of_cublaslt": {"bar": 0.6, "products_alone": $(stage_value prefill share_of_library | or_zero), "append_whole": $(ratio "$(stage_value append library_ms)" "$(value append_ms "$engine")")},
  "decode_share_of_memory": {"bar": 0.75, "products_alone": $(stage_value token share_of_memory | or_zero), "token_whole": $(ratio "$(ratio "$(stage_value token weight_gb)" "$(value copy_gb_per_second "$work/products.json")")" "$(ratio "$(value token_ms "$engine")" 1000)")},
  "towers_share_of_cublaslt": {"bar": 0.5, "products_alone": $(stage_value frame share_of_library | or_zero), "frame_whole": $(ratio "$(stage_value frame library_ms)" "$(value frame_ms "$engine")")},
  "stream_seconds_per_second": {"bar": 1, "measured": $(value seconds_per_second "$engine" | or_zero)}}
JSON
}

write_report ()
{
  local i
  {
    printf '{"date": "%s",\n "machine": %s,\n "tests": [' "$(date -u +%FT%TZ)" "$(machine)"
    for i in "${!results[@]}"; do
      printf '%s\n  %s' "$([ "$i" -gt 0 ] && echo ,)" "${results[$i]}"
    done
    printf '],\n "figures": {'
    for i in "${!figures[@]}"; do
      printf '%s\n  %s' "$([ "$i" -gt 0 ] && echo ,)" "${figures[$i]}"
    done
    printf '},\n "bars": %s}\n' "$(bars)"
  } >"$1"
}

run ()
{
  local from=$1 out=$2 cublas
  [ -e "$from/valley-gpu.tar.gz" ] || fail "no $from/valley-gpu.tar.gz; expected what \"gpu.sh pack\" made"
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  tar -C "$work" -xzf "$from/valley-gpu.tar.gz" || fail "cannot unpack $from/valley-gpu.tar.gz"
  cublas=$(find_cublas)
  export LD_LIBRARY_PATH=$work/lib${cublas:+:$cublas} VALLEY_CUDA_WING=$work/lib/wing.so
  export VALLEY_MODEL_DIR=$work/valley-tiny VALLEY_TEST_MODEL=$work/valley-tiny GOLDEN_DIR=$work/golden
  [ -e "$work/emulated" ] && export VALLEY_TEST_ROUNDS=3
  figures=()
  mkdir -p "$work/log"
  end_at=$((SECONDS + 120))
  # shellcheck disable=SC2086
  run_tests ${VALLEY_GPU_KERNEL_TESTS-$kernel_tests}
  end_at=$((SECONDS + 180))
  if [ -e "$work/emulated" ]; then
    figure products 30 bin/bench-products 64
    figure engine 150 bin/valley bench gpu --device cuda --model golden/ovis-softmax --window 2 --hop 1 --max-new-tokens 3
  else
    figure products 90 bin/bench-products
    figure engine 150 bin/valley bench gpu --device cuda --config valley2-7b.json
  fi
  end_at=$((SECONDS + 110))
  export VALLEY_TEST_DEVICE=cuda # kernels are compared with the CPU's
  # shellcheck disable=SC2086
  run_tests ${VALLEY_GPU_ENGINE_TESTS-$engine_tests}
  unset VALLEY_TEST_DEVICE
  end_at=$((SECONDS + 60))
  sanitize
  write_report "$out"
  echo "$n_failed parts failed; $out has it all"
  [ $n_failed -eq 0 ]
}

case ${1:-} in
  pack)
    [ $# -ge 2 ] || fail "expected: gpu.sh pack DIR [BUILD]"
    pack "$2" "${3:-$here/../build}"
    ;;
  run) run "${2:-$here}" "${3:-gpu.json}" ;;
  *) fail "expected pack or run; see the top of this file" ;;
esac
