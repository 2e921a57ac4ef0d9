#!/bin/sh
# compile.sh LOG COMMAND... - runs nvcc and keeps what it and ptxas said, which is much (registers
# and spills of every kernel; tests/cuda-spills.sh reads it): only what went wrong is shown.
#
# SPDX-License-Identifier: Apache-2.0
log=$1
shift
"$@" >"$log" 2>&1 && { grep -i 'warning' "$log" || :; } && exit 0
cat "$log"
exit 1
