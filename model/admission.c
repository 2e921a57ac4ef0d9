/* admission.c - what a window policy will need of memory and context, before it starts.
 *
 * The sums follow schedule.c: which sequences live at once and how long they are at their
 * longest.  tests/test-admission.c holds a counting model's peaks against them.
 * SPDX-License-Identifier: Apache-2.0 */
#include "admission.h"

#include "engine.h"
#include "room.h"
#include "schedule.h"

#include <unistd.h>

static const char *const policy_names[] = { "tumbling", "anchored", "sliding", "streaming" };

static guint64
plus (guint64 a, guint64 b)
{
  guint64 sum;

  return g_uint64_checked_add (&sum, a, b) ? sum : G_MAXUINT64;
}

static guint64
times (guint64 a, guint64 b)
{
  guint64 product;

  return g_uint64_checked_mul (&product, a, b) ? product : G_MAXUINT64;
}

/* ---- sums ---- */

/* Pages of @n sequences that hold @frames frames together.  The last page of each is partly
 * used, and copied by a fork. */
static guint64
pages_of (guint64 n, guint64 frames, guint64 frame_rows)
{
  guint64 rows = plus (times (n, VALLEY_USUAL_HEADER_ROWS), times (frames, frame_rows));

  return plus (rows / VALLEY_KV_PAGE_ROWS, n);
}

/* Of @n_frames long sequences that begin @hop frames apart: how many live at once, with W, W - hop,
 * W - 2 hop ... frames. */
static void
staggered (guint64 n_frames, guint64 hop, guint64 *n, guint64 *frames)
{
  guint64 all, missing;

  *n = (n_frames - 1) / hop + 1;
  all = times (*n, n_frames);
  missing = times (times (*n, *n - 1) / 2, hop);
  *frames = all - MIN (all, missing);
}

/* How many frames all sequences hold together when they hold most, and how many they are. */
static void
most_held (const ValleyWindowing *windowing, guint64 n_frames, guint64 *n, guint64 *frames)
{
  guint64 hop = windowing->hop_frames > 0 ? windowing->hop_frames : n_frames;

  switch (windowing->policy) {
  case VALLEY_WINDOWS_ANCHORED: /* at its end, beside the successor that is W frames shorter */
    *n = 2;
    *frames = times (n_frames, 3);
    break;
  case VALLEY_WINDOWS_SLIDING:
    staggered (n_frames, hop, n, frames);
    break;
  case VALLEY_WINDOWS_STREAMING: /* W frames beside successors on their way to as many */
    staggered (n_frames, times (hop, valley_windowing_reanchor_hops (windowing)), n, frames);
    *n += 1;
    *frames = plus (*frames, n_frames);
    break;
  default:
    *n = 1;
    *frames = n_frames;
    break;
  }
}

static guint64
frames_in_context (const ValleyConfig *config, guint64 frame_rows)
{
  return MAX (config->llm.max_position_embeddings / MAX (frame_rows, 1), 1);
}

guint
valley_model_most_frames (ValleyModel *model, const ValleyInputSizes *sizes)
{
  guint64 rows = plus (sizes->n_tokens, VALLEY_FRAME_TEXT_ROWS);

  return (guint) MIN (frames_in_context (model->config, rows), G_MAXUINT);
}

/* The frames of a window.  Tumbling leaves out what the context has no room for, and is taken to
 * fill it when the window's length is not known. */
static guint64
frames_of (const ValleyWindowing *windowing, const ValleyConfig *config, guint64 frame_rows)
{
  guint64 room = frames_in_context (config, frame_rows);

  if (windowing->policy == VALLEY_WINDOWS_TUMBLING
      && (windowing->window_frames == 0 || windowing->window_frames > room))
    return room;
  return windowing->window_frames;
}

void
valley_cache_need (const ValleyConfig *config, ValleyPrecision precision, gboolean is_cpu,
                   const ValleyWindowing *windowing, guint64 vision_tokens, ValleyCacheNeed *need)
{
  const ValleyLlmConfig *llm = &config->llm;
  const gboolean anchored = windowing->policy == VALLEY_WINDOWS_ANCHORED;
  const gboolean streaming = windowing->policy == VALLEY_WINDOWS_STREAMING;
  guint64 frame_rows = plus (vision_tokens, VALLEY_FRAME_TEXT_ROWS);
  guint64 n_frames = frames_of (windowing, config, frame_rows), n = 0, held = 0, pages;
  ValleyDType activations, kv;
  guint64 row_bytes
      = times (times ((streaming ? 3 : 2) * llm->n_layers, llm->n_kv_heads), llm->head_dim);

  valley_precision_types (precision, is_cpu, &activations, &kv);
  row_bytes = times (row_bytes, valley_dtype_bytes (kv));
  most_held (windowing, n_frames, &n, &held);
  pages = pages_of (n, held, frame_rows);
  /* The header alone, which new sequences are forked from; the question and its answer. */
  pages = plus (pages, pages_of (1, 0, 0));
  pages = plus (pages, VALLEY_USUAL_TAIL_ROWS / VALLEY_KV_PAGE_ROWS + 2);
  if (streaming) /* two answers are compared; keys are also kept as they were before rotation */
    pages = plus (pages, VALLEY_USUAL_TAIL_ROWS / VALLEY_KV_PAGE_ROWS + 2);
  need->most_frames = anchored ? times (n_frames, 2) : n_frames;
  need->rows = plus (times (need->most_frames, frame_rows),
                     VALLEY_USUAL_HEADER_ROWS + VALLEY_USUAL_TAIL_ROWS);
  need->kv_bytes = times (times (pages, VALLEY_KV_PAGE_ROWS), row_bytes);
  /* The newest frame comes before the oldest goes, and the one before a window may be what the
   * next is compared with.  Where repeated tokens are dropped, each sequence keeps a frame's worth
   * to compare with. */
  need->encoding_bytes = times (times (plus (need->most_frames, plus (n, 2)), vision_tokens),
                                llm->hidden_size * valley_dtype_bytes (activations));
}

/* ---- decisions ---- */

gboolean
valley_windowing_check (const ValleyWindowing *windowing, GError **error)
{
  if ((guint) windowing->policy >= G_N_ELEMENTS (policy_names)) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
                 "window policy %d; expected one of ValleyWindowPolicy", windowing->policy);
    return FALSE;
  }
  if (windowing->policy != VALLEY_WINDOWS_TUMBLING
      && (windowing->hop_frames == 0 || windowing->hop_frames > windowing->window_frames)) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
                 "window policy %s with windows of %u frames, %u apart; expected a window of at "
                 "least a frame and a hop from 1 to its length",
                 policy_names[windowing->policy], windowing->window_frames, windowing->hop_frames);
    return FALSE;
  }
  if (!(windowing->max_drift >= 0)) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
                 "max_drift %g; expected a number of nats, 0 for no limit", windowing->max_drift);
    return FALSE;
  }
  return TRUE;
}

/* The host's.  Nothing can need more than all of it. */
static guint64
physical_bytes (void)
{
  long pages = sysconf (_SC_PHYS_PAGES), bytes = sysconf (_SC_PAGESIZE);

  return pages > 0 && bytes > 0 ? times ((guint64) pages, (guint64) bytes) : G_MAXUINT64;
}

/* The least of what the settings allow and what the device has; @whose: for messages. */
static guint64
bound_of (ValleyModel *model, guint64 cache_max_bytes, const char **whose)
{
  guint64 spare = model->device.is_cuda ? valley_model_spare_bytes (model) : physical_bytes ();

  if (cache_max_bytes != 0 && (cache_max_bytes <= spare || !model->device.is_cuda)) {
    *whose = "the cache's bound";
    return cache_max_bytes;
  }
  *whose
      = model->device.is_cuda ? "the device's memory beside the weights" : "this machine's memory";
  return spare;
}

/* A policy that is asked for must fit the context: what it cannot show would have to be computed
 * apart for every window.  Tumbling leaves frames out, as for any prompt. */
static gboolean
check_context (const ValleyConfig *config, const ValleyWindowing *windowing,
               const ValleyCacheNeed *need, GError **error)
{
  if (windowing->policy == VALLEY_WINDOWS_TUMBLING
      || need->rows <= config->llm.max_position_embeddings)
    return TRUE;
  g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_CONTEXT,
               "the window policy %s shows up to %" G_GUINT64_FORMAT " frames: %" G_GUINT64_FORMAT
               " tokens with prompt and answer; expected at most %" G_GSIZE_FORMAT
               " (config.json: max_position_embeddings): a shorter window, fewer "
               "frames a second or fewer vision tokens, or %s",
               policy_names[windowing->policy], need->most_frames, need->rows,
               config->llm.max_position_embeddings,
               windowing->policy == VALLEY_WINDOWS_ANCHORED ? "sliding or tumbling" : "tumbling");
  return FALSE;
}

gboolean
valley_model_admits (ValleyModel *model, const ValleyWindowing *windowing,
                     const ValleyInputSizes *sizes, guint64 *bytes, GError **error)
{
  const char *whose;
  const guint64 bound = bound_of (model, windowing->cache_max_bytes, &whose);
  ValleyCacheNeed need, least;
  ValleyWindowing tumbling = *windowing;

  *bytes = 0;
  if (!valley_windowing_check (windowing, error))
    return FALSE;
  valley_cache_need (model->config, model->precision, !model->device.is_cuda, windowing,
                     sizes->n_tokens, &need);
  *bytes = plus (need.kv_bytes, need.encoding_bytes);
  if (!check_context (model->config, windowing, &need, error))
    return FALSE;
  if (*bytes <= bound)
    return TRUE;
  tumbling.policy = VALLEY_WINDOWS_TUMBLING;
  valley_cache_need (model->config, model->precision, !model->device.is_cuda, &tumbling,
                     sizes->n_tokens, &least);
  g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_MEMORY,
               "the window policy %s needs %" G_GUINT64_FORMAT " bytes for windows of %u frames, "
               "%u apart, of %u vision tokens (%" G_GUINT64_FORMAT
               " bytes of keys and values, %" G_GUINT64_FORMAT
               " of encodings); expected at most %" G_GUINT64_FORMAT " (%s): a shorter window, "
               "a longer hop, fewer frames a second or fewer vision tokens%s",
               policy_names[windowing->policy], *bytes, windowing->window_frames,
               windowing->hop_frames, sizes->n_tokens, need.kv_bytes, need.encoding_bytes, bound,
               whose,
               plus (least.kv_bytes, least.encoding_bytes) <= bound
                       && windowing->policy != VALLEY_WINDOWS_TUMBLING
                   ? ", or tumbling, which fits"
                   : "");
  return FALSE;
}
