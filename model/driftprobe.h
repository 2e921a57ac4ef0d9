/* driftprobe.h - one comparison of the streaming policy with the exact one: the sequence that
 * answered until an exact one took its place reads the same frames and the same question, and is
 * asked for every token of the exact answer whether it would have given it.
 *
 * It is prepared while the exact answer begins, and run when there is time, after it.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "drift.h"
#include "sampler.h"
#include "sequence.h"

typedef struct _ValleyDriftProbe ValleyDriftProbe;

/* Takes over @sequence, of at most @window_frames frames, which lacks @frames; @tail: the prompt
 * behind its frames. */
ValleyDriftProbe *valley_drift_probe_new (ValleyModel *model, ValleySequence *sequence,
                                          guint window_frames, ValleyFrame *const *frames,
                                          guint n_frames, const gint32 *tail, gsize n_tail);
void valley_drift_probe_free (ValleyDriftProbe *probe); /* NULL is fine */

/* @last: the output of the exact prompt's last row.  @sampler, taken over, is as the answer's was
 * before its first token. */
gboolean valley_drift_probe_begin (ValleyDriftProbe *probe, ValleyPrefill *prefill,
                                   const ValleyTensor *last, ValleySampler *sampler,
                                   GError **error);
/* The exact answer is over; these are its tokens. */
void valley_drift_probe_end (ValleyDriftProbe *probe, const gint32 *ids, gsize n_ids);
gboolean valley_drift_probe_is_ready (const ValleyDriftProbe *probe);

/* Adds the comparison to @drift and the rows it computed to the counters.  Once. */
gboolean valley_drift_probe_run (ValleyDriftProbe *probe, ValleyPrefill *prefill,
                                 ValleyDrift *drift, guint64 *frame_rows, guint64 *text_rows,
                                 GError **error);
