#!/bin/bash
# test-cli.sh - the command line `valley` (TAP): answers, files it writes, exit statuses and
# what it says when something is wrong.
#
# SPDX-License-Identifier: Apache-2.0
. "$(dirname "$0")/pipelines/tap.sh"

VALLEY=$BUILD_DIR/tools/valley
GOLDEN=$SOURCE_DIR/tests/golden
TILED=$GOLDEN/image-tiled

# fails STATUS TEXT COMMAND... : ends with STATUS, prints no answer and TEXT on standard error.
fails ()
{
  local want=$1 text=$2 out status
  shift 2
  out=$(timeout -k 5 60 "$@" 2>"$DIR/stderr" </dev/null)
  status=$?
  cat "$DIR/stderr"
  [ $status -eq "$want" ] || { echo "status $status, not $want"; return 1; }
  [ -z "$(echo "$out" | tr -d '\n')" ] || { echo "printed: $out"; return 1; }
  grep -qF -- "$text" "$DIR/stderr" || { echo "does not say: $text"; return 1; }
}

# contains TEXT COMMAND... : ends well and prints TEXT.
contains ()
{
  local text=$1
  shift
  run 60 "$@" >"$DIR/stdout" || return 1
  grep -qF -- "$text" "$DIR/stdout" && return
  cat "$DIR/stdout"
  echo "does not say: $text"
  return 1
}

picture ()
{
  run 30 gst-launch-1.0 -q videotestsrc pattern="$1" num-buffers=1 \
    ! video/x-raw,format=RGB,width=320,height=180 ! pngenc ! filesink location="$2"
}

# ---- what it says about itself ----

check "--version" contains "valley $(sed -n "s/^  version: '\(.*\)',/\1/p" "$SOURCE_DIR/meson.build")" \
  "$VALLEY" --version
check "--help" contains "EXIT STATUS" "$VALLEY" --help
check "run --help" contains "--max-new-tokens" "$VALLEY" run --help

# ---- answers ----

golden_text=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["text"])' "$TILED/golden.json")
golden_run ()
{
  run 60 "$VALLEY" run --model "$TILED" --image "$TILED/image.png" --precision f32 \
    --prompt "Describe the picture." --max-new-tokens 12 "$@"
}
check "the golden picture gets the golden answer" is "$(golden_run)" "$golden_text"
check "--threads 1 gives the same" is "$(golden_run --threads=1)" "$golden_text"

golden_run --logits "$DIR/logits.npy" --dump "$DIR/dump" >/dev/null
npy_header ()
{
  head -c 128 "$1" | tail -c +11 | tr -s ' ' | head -1 | sed 's/ $//'
}
check "--logits writes steps x vocabulary" is "$(npy_header "$DIR/logits.npy")" \
  "{'descr': '<f4', 'fortran_order': False, 'shape': (12, 340), }"
check "and as many floats" is "$(stat -c %s "$DIR/logits.npy")" $((128 + 12 * 340 * 4))
check "--dump writes every stage" is \
  "$(find "$DIR/dump" -name '*.npy' | sed 's|.*/||; s|\.npy$||' | sort | tr '\n' ' ')" \
  "$(python3 -c 'import json, sys; print(*sorted(json.load(open(sys.argv[1]))["stages"]), end=" ")' \
    "$TILED/golden.json")"

golden_run --metrics >/dev/null 2>"$DIR/metrics"
check "--metrics counts the tokens" grep -q "^output tokens *12$" "$DIR/metrics"
check "and names the device" grep -Eq "^device *(cpu|cuda:0)$" "$DIR/metrics"

check "a picture of bars" picture smpte "$DIR/bars.png"
check "a picture of black" picture black "$DIR/black.png"
frames_run ()
{
  run 60 "$VALLEY" run --model "$GOLDEN/ovis-softmax" --frames "$DIR/bars.png" "$DIR/black.png" \
    "$DIR/bars.png" --prompt "Describe the video." --max-new-tokens 8 "$@" 2>"$DIR/metrics"
}
check "--frames takes every file" eval 'frames_run --metrics && grep -q "^frames *3$" "$DIR/metrics"'
pictures ()
{
  frames_run --metrics "$@" >/dev/null && sed -n 's/^input tokens.*of them \([0-9]*\) of pictures.*/\1/p' "$DIR/metrics"
}
full=$(pictures)
check "no budget, nothing reduced" eval '! grep -q "^reduced" "$DIR/metrics"'
check "a budget is kept" test "$(pictures --max-vision-tokens 12)" -le 12
check "and the full number is told" grep -q "^reduced *from $full " "$DIR/metrics"
check "a budget that cannot be met is exceeded, and it says so" eval \
  '[ "$(pictures --max-vision-tokens 12 --reduction none)" -eq "$full" ] &&
   grep -q "at least $full with this --reduction" "$DIR/metrics"'
check "repeated pictures need no tokens" eval \
  '[ "$(pictures --reduction drop --frames "$DIR/bars.png" "$DIR/bars.png")" -lt "$(pictures --frames "$DIR/bars.png" "$DIR/bars.png")" ]'
check "the same seed, the same answer" is \
  "$(frames_run --temperature 1.5 --top-k 50 --top-p 0.95 --seed 7)" \
  "$(frames_run --temperature 1.5 --top-k 50 --top-p 0.95 --seed 7)"
answers=$(for seed in 1 2 3 4 5; do frames_run --temperature 1.5 --seed $seed | md5sum; done | sort -u | wc -l)
check "other seeds, other answers" test "$answers" -gt 1

many=()
for _ in $(seq 60); do many+=("$DIR/bars.png"); done
check "frames that do not fit are left out, and it says so" eval \
  'frames_run --frames "${many[@]}" >/dev/null && grep -q "of 63 frames were left out" "$DIR/metrics"'

# Nearly any token at random, markers among them.
babble ()
{
  for seed in 1 2 3; do
    frames_run --temperature 100 --max-new-tokens 200 --seed $seed "$@" || return 1
  done
}
marker='</?(SUMMARY|CAPTION|REASONING|CONCLUSION)>'
check "markers are kept by default" eval 'babble | grep -aqE "$marker"'
check "--markers strip leaves none" eval '! babble --markers strip | grep -aqE "$marker"'
check "--markers split names the sections" eval \
  'babble --markers split | grep -aqE "^(reasoning|summary|caption|conclusion):$"'

# Valley2.5's layout: no SigLIP tower, so nothing to cut a picture into.
check "a picture for a model of one tower" eval \
  'run 60 "$VALLEY" run --model "$GOLDEN/qwen3-navit" --image "$DIR/bars.png" --prompt x --max-new-tokens 4 \
    --dump "$DIR/dump-navit" && [ -f "$DIR/dump-navit/frame.0.eagle.output.npy" ]'
check "no other tower ran" eval '! ls "$DIR"/dump-navit/*siglip*'

if [ -f "$SOURCE_DIR/assets/valley-tiny/model.safetensors" ]; then
  bundled ()
  {
    env -u VALLEY_MODEL_DIR timeout -k 5 60 "$VALLEY" run --frames "$DIR/bars.png" \
      "$DIR/bars.png" --prompt "Describe the video."
  }
  check "without --model the bundled one answers" is "$(bundled)" "Color bars."
  check "the bundled model is complete" contains "Language model" "$VALLEY" inspect
fi

# ---- inspect ----

check "inspect finds a golden complete" contains "model.embed_tokens.weight" "$VALLEY" inspect "$TILED"
check "inspect names the decoder" contains "Language model    Qwen3, 2 layers" "$VALLEY" inspect "$GOLDEN/qwen3-navit"
"$VALLEY" inspect "$TILED" --json >"$DIR/inspect.json"
check "inspect --json is JSON" python3 -m json.tool "$DIR/inspect.json" /dev/null

# ---- what is wrong is said ----

check "a report that cannot be written" eval '! "$VALLEY" inspect "$TILED" >/dev/full'
check "an answer that cannot be written" eval '! golden_run >/dev/full'

broken=$DIR/broken
cp -r "$TILED" "$broken"
head -c 100000 "$TILED/model.safetensors" >"$broken/model.safetensors"
check "a truncated checkpoint" fails 1 "$broken/model.safetensors" \
  "$VALLEY" run --model "$broken" --image "$TILED/image.png" --prompt x
check "inspect ends with 1 on it" eval '! "$VALLEY" inspect "$broken" >/dev/null 2>&1'
rm "$broken/model.safetensors"
check "no weights" fails 1 "model.safetensors" \
  "$VALLEY" run --model "$broken" --image "$TILED/image.png" --prompt x
check "a folder without a checkpoint" fails 1 "$DIR/dump/config.json" \
  "$VALLEY" run --model "$DIR/dump" --image "$TILED/image.png" --prompt x
check "no such folder" fails 1 "$DIR/none" \
  "$VALLEY" run --model "$DIR/none" --image "$TILED/image.png" --prompt x
check "no such picture" fails 1 "$DIR/none.png" \
  "$VALLEY" run --model "$TILED" --frames "$DIR/none.png" --prompt x
echo "not a picture" >"$DIR/text.png"
check "a file that is no picture" fails 1 "$DIR/text.png" \
  "$VALLEY" run --model "$TILED" --frames "$DIR/text.png" --prompt x
check "an unknown device" fails 1 "toaster" \
  "$VALLEY" run --model "$TILED" --frames "$DIR/bars.png" --prompt x --device toaster
check "no CUDA wing" fails 1 "/nowhere/wing.so" env VALLEY_CUDA_WING=/nowhere/wing.so \
  "$VALLEY" run --model "$TILED" --frames "$DIR/bars.png" --prompt x --device cuda
check "f16 on the CPU" fails 1 "f16" \
  "$VALLEY" run --model "$TILED" --frames "$DIR/bars.png" --prompt x --device cpu --precision f16
check "an unknown precision" fails 2 "auto, f32, bf16 or f16" "$VALLEY" run --precision f8
check "logits to nowhere" eval 'golden_run --logits "$DIR/none/x.npy" 2>&1 | grep -F "$DIR/none/x.npy"'

check "no command" fails 2 "valley --help" "$VALLEY"
check "an unknown command" fails 2 "\"walk\"" "$VALLEY" walk
check "an unknown option" fails 2 "--colour" "$VALLEY" run --colour
check "inspect's option given to run" fails 2 "--json" "$VALLEY" run --json
check "no pictures" fails 2 "--frames or --image" "$VALLEY" run --prompt x
check "both kinds of pictures" fails 2 "--frames or --image" \
  "$VALLEY" run --frames "$DIR/bars.png" --image "$DIR/bars.png" --prompt x
check "no prompt" fails 2 "--prompt" "$VALLEY" run --frames "$DIR/bars.png"
check "--frames without files" fails 2 "--frames" "$VALLEY" run --frames --prompt x
check "an option without its value" fails 2 "--prompt" "$VALLEY" run --frames x --prompt
check "a word too many" fails 2 "options only" "$VALLEY" run x --frames "$DIR/bars.png"
check "a number that is none" fails 2 "--max-new-tokens" "$VALLEY" run --max-new-tokens many
check "a negative number" fails 2 "--top-k" "$VALLEY" run --top-k -1
check "an unknown way with markers" fails 2 "keep, strip or split" "$VALLEY" run --markers drop
check "a probability above 1" fails 2 "--top-p" "$VALLEY" run --top-p 1.5
check "a temperature that is not a number" fails 2 "--temperature" "$VALLEY" run --temperature nan
check "an unknown reduction" fails 2 "pool, eagle, drop and close" "$VALLEY" run --reduction pool+shrink
check "no reduction at all" fails 2 "--reduction" "$VALLEY" run --reduction ""
check "a budget for a still picture" fails 2 "for --frames" \
  "$VALLEY" run --image "$DIR/bars.png" --prompt x --max-vision-tokens 9
check "an unknown precision" fails 2 "f32" "$VALLEY" run --precision f8

done_testing
