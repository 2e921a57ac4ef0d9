#!/bin/bash
# test-gpu-sh.sh - tests/gpu.sh over the emulator (TAP): packs, unpacks somewhere else, runs a few of
# its parts, and tells of a failure in its exit status and its JSON.
#
# SPDX-License-Identifier: Apache-2.0
. "$(dirname "$0")/../pipelines/tap.sh"

if ! command -v python3 >/dev/null; then
  echo "1..0 # SKIP no python3"
  exit 0
fi
GPU=$SOURCE_DIR/tests/gpu.sh

# report EXPRESSION : true of `report`, `tests` by name and `figures`.
report ()
{
  python3 - "$DIR/gpu.json" "$1" <<'PYTHON'
import json
import sys

report = json.load(open(sys.argv[1]))
tests = {test["part"]: test for test in report["tests"]}
figures = report["figures"]
if not eval(sys.argv[2]):
    sys.exit(json.dumps(report, indent=1))
PYTHON
}

# a few parts, elsewhere than where they were built
run_gpu ()
{
  (cd "$DIR" && VALLEY_GPU_KERNEL_TESTS="$1" VALLEY_GPU_ENGINE_TESTS="$2" "$DIR/pack/gpu.sh" run "$DIR/pack" "$DIR/gpu.json")
}

# Makes a program of the pack fail.
break_program ()
{
  mkdir "$DIR/unpacked" && tar -C "$DIR/unpacked" -xzf "$DIR/pack/valley-gpu.tar.gz" || return
  printf '#!/bin/sh\necho "ok 1 - well"\necho "not ok 2 - a \\"quoted\\" one"\nexit 1\n' >"$DIR/unpacked/bin/$1"
  tar -C "$DIR/unpacked" -czf "$DIR/pack/valley-gpu.tar.gz" .
}

# The engine's programs that meson runs with VALLEY_TEST_DEVICE and without are those that gpu.sh lists.
same_engine_tests ()
{
  python3 - "$BUILD_DIR/meson-info/intro-tests.json" "$GPU" <<'PYTHON'
import json
import os
import re
import sys

by_device = {True: set(), False: set()}
for test in json.load(open(sys.argv[1])):
    name = os.path.basename(test["cmd"][0]).removeprefix("test-")
    by_device["VALLEY_TEST_DEVICE" in test["env"]].add(name)
listed = set(re.search(r'^engine_tests="(.*?)"', open(sys.argv[2]).read(), re.M | re.S).group(1).split())
if not listed or listed != by_device[True] & by_device[False]:
    sys.exit(f"{listed ^ (by_device[True] & by_device[False])} only there or here")
PYTHON
}

check "has all of the engine's tests of a device" same_engine_tests
check "packs what was built" env VALLEY_GPU_EMULATED=1 "$GPU" pack "$DIR/pack" "$BUILD_DIR"
check "that is little enough to carry" eval '[ $(stat -c %s "$DIR/pack/valley-gpu.tar.gz") -lt $((64 << 20)) ]'
check "runs and measures" run_gpu cuda-twins "redundancy pick"
check "everything passed" report 'all(test["verdict"] == "passed" and test["passed"] > 0 for test in tests.values())'
check "what was asked for" report 'set(tests) == {"cuda-twins", "redundancy", "pick"}'
check "says that it was no GPU" report '"emulator" in report["machine"]'
check "measured every stage of the products" report \
  '{stage["stage"] for stage in figures["products"]["stages"]} == {"frame", "append", "prefill", "token"}'
check "and the engine on that device" report 'figures["engine"]["device"].startswith("cuda") and figures["engine"]["token_ms"] > 0'
check "puts both beside the bars" report \
  'all(value > 0 for bar in report["bars"].values() for value in bar.values())'
check "a program fails" break_program cuda-twins
check "then the exit status is 1" eval 'run_gpu cuda-twins pick; [ $? -eq 1 ]'
check "and the rest was run all the same" report \
  'tests["cuda-twins"]["verdict"] == "failed" and tests["cuda-twins"]["failed"] == 1 and "quoted" in tests["cuda-twins"]["end"] and tests["pick"]["verdict"] == "passed" and "error" not in figures["engine"]'
check "without a pack it says so" eval '"$GPU" run "$DIR" 2>&1 | grep -q "expected what"'

done_testing
