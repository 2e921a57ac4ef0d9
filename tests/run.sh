#!/bin/bash
# run.sh - the whole test suite: installs what is missing (as root), builds, runs every test
# and ends with "N passed, N failed, N skipped".  Arguments go to `meson test`, so
# `tests/run.sh --suite NAME` or `tests/run.sh test-window` run a part of it.
#
# SPDX-License-Identifier: Apache-2.0
set -u
. "$(dirname "${BASH_SOURCE[0]}")/../tools/setup.sh"

require_packages $TEST_PACKAGES
if ! (build); then
  echo "0 passed, 1 failed, 0 skipped"
  exit 1
fi

# A log of an earlier run must not be taken for this one's.
log=$BUILD_DIR/meson-logs/testlog.json
rm -f "$log"
meson test -C "$BUILD_DIR" --no-rebuild --print-errorlogs "$@" </dev/null
status=$?

python3 "$SOURCE_DIR/tests/summary.py" "$log" "$SOURCE_DIR/tests/allowed-skips.txt" "$status"
