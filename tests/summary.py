"""summary.py LOG ALLOWED STATUS: count what `meson test` ran, subtest by subtest.

LOG is meson's testlog.json, STATUS the exit status of `meson test`.  Prints every failure and
every skip with its reason; the last line is "N passed, N failed, N skipped".  Exit status 1 when
something failed, when nothing ran, or, under CI=true, when a skip's reason matches no line of
ALLOWED.  It trusts neither side alone: a program that dies after its last "ok" is a failure.
"""

import json
import os
import re
import sys

TAP = re.compile(r"^(not )?ok\b[ \t]*(\d*)[ \t]*(?:-[ \t]*)?([^#\n]*)(?:#[ \t]*(SKIP|TODO)\w*[ \t]*(.*))?$",
                 re.IGNORECASE)
PLAN_SKIP = re.compile(r"^1\.\.0\s*#\s*SKIP\w*\s*(.*)$", re.IGNORECASE)
FAILED_RESULTS = ("FAIL", "ERROR", "TIMEOUT", "INTERRUPT", "UNEXPECTEDPASS")


def count_test(test):
    """One line of the log -> (passed, failures, skips), the latter two as lists of texts."""
    passed, failures, skips = 0, [], []
    for line in (test.get("stdout") or "").splitlines():
        plan = PLAN_SKIP.match(line)
        if plan:
            skips.append((test["name"], plan[1] or "no reason given"))
            continue
        point = TAP.match(line)
        if not point:
            continue
        name = f"{test['name']} {point[3].strip() or point[2]}"
        directive = (point[4] or "").upper()
        if directive == "SKIP":
            skips.append((name, (point[5] or "").strip() or "no reason given"))
        elif point[1] and directive != "TODO":
            failures.append(name)
        else:
            passed += 1
    result = test["result"]
    if result in FAILED_RESULTS and not failures:
        failures.append(f"{test['name']} ({result.lower()}, status {test.get('returncode')})")
    if not (passed or failures or skips):
        # A program that speaks no TAP counts as one test.
        if result == "SKIP":
            skips.append((test["name"], "exit status 77"))
        else:
            passed = 1
    return passed, failures, skips


def allowed_reasons(path):
    with open(path, encoding="utf-8") as lines:
        return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def main(log, allowed, status):
    passed, failures, skips = 0, [], []
    if os.path.exists(log):
        with open(log, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                more, failed, skipped = count_test(json.loads(line))
                passed += more
                failures += failed
                skips += skipped
    if status != 0 and not failures:
        failures.append(f"meson test itself (status {status})")
    if not (passed or failures or skips):
        failures.append("no test ran")

    for name, reason in skips:
        print(f"SKIP {name}: {reason}")
    if os.environ.get("CI") == "true":
        reasons = allowed_reasons(allowed)
        for name, reason in skips:
            if not any(text in reason for text in reasons):
                failures.append(f"{name}: skipped in CI for a reason that {allowed} does not list")
    for name in failures:
        print(f"FAIL {name}")
    print(f"{passed} passed, {len(failures)} failed, {len(skips)} skipped")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
