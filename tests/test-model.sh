#!/bin/bash
# test-model.sh - the bundled model on sixty held-out clips (tests/clips, encoded H.264) through
# the element: at least what tests/clips/floors.json says, five points under what is promised.
#
# SPDX-License-Identifier: Apache-2.0
. "$(dirname "$0")/pipelines/tap.sh"
export GST_PLUGIN_PATH=$BUILD_DIR/gst GST_REGISTRY=$DIR/registry.bin
unset VALLEY_MODEL_DIR

check "its answers reach their floors" run 280 python3 "$SOURCE_DIR/tools/evaluate.py" \
  "$SOURCE_DIR/tests/clips" --wrong --floors "$SOURCE_DIR/tests/clips/floors.json"
# A floor that nothing can miss would say nothing.
echo '{"signal word": 101}' >"$DIR/floors.json"
impossible ()
{
  run 60 python3 "$SOURCE_DIR/tools/evaluate.py" "$SOURCE_DIR/tests/clips" --only 2 \
    --floors "$DIR/floors.json" 2>&1 | grep "below the floor: signal word"
}
check "a missed floor is a failure" impossible
done_testing
