#!/bin/bash
# Tests pipelines/every-half-second.sh: a caption for every hop, which follow one another.
. "$(dirname "$0")/tap.sh"

times ()
{
  local start=02.0 line
  echo "00:00.0 → 00:02.0"
  for end in 02.5 03.0 03.5 04.0 04.5 05.0 05.5 06.0 06.5 07.0 07.5 08.0; do
    echo "00:$start → 00:$end"
    start=$end
  done
}

check "a clip is made" make_clip "$DIR/a clip.mp4"
for policy in auto sliding; do
  check "$policy runs to its end" run 60 sh -c '"$1" "$2" window-policy=$3 >"$4"' - \
    "$PIPELINES/every-half-second.sh" "$DIR/a clip.mp4" $policy "$DIR/out"
  check "$policy: captions follow one another" is "$(sed 's/  .*//' "$DIR/out")" "$(times)"
  check "$policy: bars first" is "$(sed -n '5s/.*  //p' "$DIR/out")" "Color bars."
  check "$policy: black last" is "$(sed -n '13s/.*  //p' "$DIR/out")" "A black screen."
done
done_testing
