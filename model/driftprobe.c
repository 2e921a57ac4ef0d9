/* driftprobe.c - see driftprobe.h.
 * SPDX-License-Identifier: Apache-2.0 */
#include "driftprobe.h"

#include "alloc.h"

#define MAX_ROWS ((gsize) 16) /* answer rows at a time: their logits are long */

struct _ValleyDriftProbe {
  ValleyModel *model;
  ValleySequence *sequence;
  guint window_frames;
  GPtrArray *frames; /* ValleyFrame: that the sequence lacks */
  GArray *tail;      /* gint32 */

  ValleySampler *sampler;
  float *exact; /* the first token's logits; NULL until the answer began */
  GArray *ids;  /* gint32: the answer; NULL until it is over */
};

static void
frame_unref (gpointer data)
{
  valley_frame_unref (data);
}

ValleyDriftProbe *
valley_drift_probe_new (ValleyModel *model, ValleySequence *sequence, guint window_frames,
                        ValleyFrame *const *frames, guint n_frames, const gint32 *tail,
                        gsize n_tail)
{
  ValleyDriftProbe *probe = g_new0 (ValleyDriftProbe, 1);

  probe->model = model;
  probe->sequence = sequence;
  probe->window_frames = window_frames;
  probe->frames = g_ptr_array_new_with_free_func (frame_unref);
  for (guint i = 0; i < n_frames; i++)
    g_ptr_array_add (probe->frames, valley_frame_ref (frames[i]));
  probe->tail = g_array_new (FALSE, FALSE, sizeof (gint32));
  g_array_append_vals (probe->tail, tail, (guint) n_tail);
  return probe;
}

void
valley_drift_probe_free (ValleyDriftProbe *probe)
{
  if (probe == NULL)
    return;
  valley_sequence_free (probe->sequence, probe->model->backend);
  g_ptr_array_unref (probe->frames);
  g_array_unref (probe->tail);
  valley_sampler_free (probe->sampler);
  g_free (probe->exact);
  if (probe->ids != NULL)
    g_array_unref (probe->ids);
  g_free (probe);
}

/* A row's logits, to free. */
static float *
new_logits (const ValleyDriftProbe *probe, GError **error)
{
  gsize n = probe->model->config->llm.vocab_size;
  float *logits = VALLEY_NEW (float, n);

  if (logits == NULL)
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_MEMORY,
                 "not enough memory for the logits of %" G_GSIZE_FORMAT " tokens", n);
  return logits;
}

gboolean
valley_drift_probe_begin (ValleyDriftProbe *probe, ValleyPrefill *prefill, const ValleyTensor *last,
                          ValleySampler *sampler, GError **error)
{
  probe->sampler = sampler;
  probe->exact = new_logits (probe, error);
  if (probe->exact != NULL
      && valley_decoder_logits (prefill->llm, prefill->stream, &prefill->run, last, probe->exact,
                                error))
    return TRUE;
  g_clear_pointer (&probe->exact, g_free); /* it will never be ready */
  return FALSE;
}

void
valley_drift_probe_end (ValleyDriftProbe *probe, const gint32 *ids, gsize n_ids)
{
  if (probe->exact == NULL || probe->ids != NULL)
    return;
  probe->ids = g_array_new (FALSE, FALSE, sizeof (gint32));
  g_array_append_vals (probe->ids, ids, (guint) n_ids);
}

gboolean
valley_drift_probe_is_ready (const ValleyDriftProbe *probe)
{
  return probe->ids != NULL && probe->ids->len > 0;
}

/* ---- the run ---- */

typedef struct {
  ValleyDriftProbe *probe;
  ValleyPrefill *prefill;
  guint64 *frame_rows, *text_rows;
} Run;

/* Text, with one frame or none, behind what the sequence holds. */
static gboolean
append (const Run *run, ValleyRows *rows, const GArray *ids, ValleyFrame *frame, GError **error)
{
  ValleySequence *sequence = run->probe->sequence;

  if (!valley_rows_init (rows, run->prefill, (const gint32 *) ids->data, ids->len, &frame,
                         &sequence->redundancy, error))
    return FALSE;
  if (!valley_rows_append (rows, run->prefill, &sequence->cache, error)) {
    valley_rows_clear (rows, run->prefill);
    return FALSE;
  }
  valley_sequence_note (sequence, rows, 0);
  *run->frame_rows += rows->n_frame_rows;
  *run->text_rows += rows->x.rows - rows->n_frame_rows;
  return TRUE;
}

/* Frame by frame, as it would have been had there been time. */
static gboolean
append_frames (const Run *run, GError **error)
{
  ValleyDriftProbe *probe = run->probe;
  const ValleyPrompt *prompt = probe->model->prompt;

  for (guint i = 0; i < probe->frames->len; i++) {
    g_autoptr (GArray) ids = g_array_new (FALSE, FALSE, sizeof (gint32));
    ValleyRows rows;

    if (probe->sequence->spans->len >= probe->window_frames
        && !valley_sequence_evict (probe->sequence, run->prefill, 1,
                                   valley_prompt_slot_text (prompt), error))
      return FALSE;
    valley_prompt_frame (prompt, probe->sequence->spans->len == 0, ids);
    if (!append (run, &rows, ids, g_ptr_array_index (probe->frames, i), error))
      return FALSE;
    valley_rows_clear (&rows, run->prefill);
  }
  return TRUE;
}

/* Whether the answer's tokens from @ids on are what is picked from @logits, of rows computed for
 * @inputs. */
static gboolean
check_tokens (const Run *run, const ValleyTensor *logits, const ValleyTensor *inputs,
              const gint32 *ids, gboolean *same, GError **error)
{
  ValleySampler *sampler = run->probe->sampler;
  ValleyToken tokens[MAX_ROWS];

  if (!valley_sampler_pick (sampler, run->prefill->stream, logits, inputs, tokens, error))
    return FALSE;
  *same = TRUE;
  for (gsize i = 0; i < logits->rows; i++)
    *same &= tokens[i].id == ids[i];
  valley_sampler_keep (sampler, run->prefill->stream, logits->rows);
  return TRUE;
}

/* @first: becomes the first token's logits. */
static gboolean
read_question (const Run *run, float *first, gboolean *same, GError **error)
{
  const gint32 *ids = (const gint32 *) run->probe->ids->data;
  ValleyStream *stream = run->prefill->stream;
  ValleyRows rows;
  ValleyTensor last, logits;
  gboolean ok;

  if (!append (run, &rows, run->probe->tail, NULL, error))
    return FALSE;
  last = valley_tensor_rows (&rows.x, rows.x.rows - 1, 1);
  logits = valley_decoder_head (run->prefill->llm, stream, &run->prefill->run, &last);
  ok = stream->ops->download (stream, &logits, first, error)
       && check_tokens (run, &logits, NULL, ids, same, error);
  valley_rows_clear (&rows, run->prefill);
  return ok;
}

/* Rows of @n answer tokens from @ids on, each of which the next should follow. */
static gboolean
read_answer (const Run *run, const gint32 *ids, gsize n, gboolean *same, GError **error)
{
  ValleyPrefill *prefill = run->prefill;
  ValleyTensor inputs, logits = valley_decoder_step (prefill->llm, prefill->stream, &prefill->run,
                                                     &run->probe->sequence->cache, ids, n, &inputs);

  return check_tokens (run, &logits, &inputs, ids + 1, same, error);
}

/* After the first token. */
static gboolean
compare_answers (const Run *run, gboolean *same, GError **error)
{
  const gint32 *ids = (const gint32 *) run->probe->ids->data;
  gsize n_ids = run->probe->ids->len, n;

  for (gsize done = 1; *same && done < n_ids; done += n) {
    n = MIN (MAX_ROWS, n_ids - done);
    if (!read_answer (run, ids + done - 1, n, same, error))
      return FALSE;
    *run->text_rows += n;
  }
  return TRUE;
}

gboolean
valley_drift_probe_run (ValleyDriftProbe *probe, ValleyPrefill *prefill, ValleyDrift *drift,
                        guint64 *frame_rows, guint64 *text_rows, GError **error)
{
  Run run = { probe, prefill, frame_rows, text_rows };
  g_autofree float *logits = new_logits (probe, error);
  double divergence;
  gboolean same;

  if (logits == NULL || !append_frames (&run, error) || !read_question (&run, logits, &same, error))
    return FALSE;
  divergence = valley_drift_divergence (probe->exact, logits, probe->model->config->llm.vocab_size);
  if (!compare_answers (&run, &same, error))
    return FALSE;
  valley_drift_add (drift, divergence, same);
  return TRUE;
}
