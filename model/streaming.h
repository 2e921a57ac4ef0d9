/* streaming.h - the approximate window policy's cache: rows are taken out of a sequence's middle.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "decoder_run.h"

/* Takes rows @first ... @first + @n - 1 out of @cache, whose pool keeps unrotated keys: the rows
 * behind move up, their keys turned to @positions (one for each of them; NULL: their new row
 * numbers, as for a sequence without gaps).  Not exact: what those rows learnt from the ones
 * taken out is still in them.  On failure the stream's error is set and @cache is empty. */
void valley_streaming_evict (ValleyKvCache *cache, ValleyStream *stream, ValleyDecoderRun *run,
                             gsize first, gsize n, const gint32 *positions);
