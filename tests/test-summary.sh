#!/bin/bash
# test-summary.sh - the count that tests/run.sh ends with: what passed, failed and was skipped,
# also when a program lies by dying after its last "ok" (TAP).
#
# SPDX-License-Identifier: Apache-2.0
set -u
cd "$(dirname "$0")" || exit 1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
echo "no GPU" >"$dir/allowed"

count=0
# expect NAME CI STATUS-OF-MESON EXIT LAST-LINE : on the log in $dir/log
expect ()
{
  local out status
  count=$((count + 1))
  out=$(CI=$2 python3 summary.py "$dir/log" "$dir/allowed" "$3")
  status=$?
  if [ $status -eq "$4" ] && [ "$(echo "$out" | tail -n 1)" = "$5" ]; then
    echo "ok $count - $1"
  else
    echo "not ok $count - $1"
    printf '%s\n(exit status %s)\n' "$out" "$status" | sed 's/^/# /'
  fi
}
# log NAME RESULT STDOUT : one more line of meson's log
log ()
{
  printf '{"name":"%s","result":"%s","returncode":0,"stdout":"%s"}\n' "$1" "$2" "$3" >>"$dir/log"
}

log a OK 'TAP version 13\nok 1 /a/b\nok 2 /a/c # SKIP no GPU here\n1..2\n'
expect "points are counted one by one" true 0 0 "1 passed, 0 failed, 1 skipped"
log b SKIP '1..0 # SKIP no weather\n'
expect "a skipped program is a skip" false 0 0 "1 passed, 0 failed, 2 skipped"
expect "in CI its reason must be listed" true 0 1 "1 passed, 1 failed, 2 skipped"
log c ERROR 'ok 1 - x\n'
expect "dying after an ok is a failure" false 1 1 "2 passed, 1 failed, 2 skipped"
log d FAIL 'ok 1 - x\nnot ok 2 - y\n'
expect "a failed point is one failure" false 1 1 "3 passed, 2 failed, 2 skipped"
log e TIMEOUT ''
expect "a timeout is a failure" false 1 1 "3 passed, 3 failed, 2 skipped"
rm "$dir/log"
expect "no log is a failure" false 0 1 "0 passed, 1 failed, 0 skipped"
log a OK 'ok 1 - x\n'
expect "meson's own failure is one" false 1 1 "1 passed, 1 failed, 0 skipped"
echo "1..$count"
