/* decoder_run.h - what a session's passes through the decoder leave for the next ones: scratch
 * memory whose addresses stay, the numbers of a pass and the pages' addresses on the device, and
 * passes that were recorded there.
 *
 * A pass is a list of operations that finds everything that changes from one to the next (where
 * its rows go, their positions, their ids, the pages) in the device's memory.  So where the device
 * records operations, one that comes again is run from its recording.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "config.h"
#include "kvcache.h"
#include "rotary.h"

/* Activations of the rows of one pass, used again by every layer. */
typedef struct {
  ValleyTensor normed, q, k, v, mixed, delta, gate, up;
} ValleyDecoderScratch;

typedef struct {
  ValleyBackend *backend;
  ValleyLlmConfig config;
  ValleyRotary rotary;

  gsize most_rows; /* of the scratch and of x */
  ValleyDecoderScratch scratch;
  ValleyTensor x;      /* residual rows of passes that are recorded, and of generated rows */
  ValleyTensor logits; /* of the rows last asked for */

  ValleyTensor numbers; /* I32: the first row's place, the rows' positions, their ids */
  gint32 *host_numbers; /* room for as many */
  ValleyTensor table;   /* of pages, as ValleyKv has it; empty where the backend wants none */
  guint64 *table_pages; /* what it holds: ids of valley_kv_cache_page_id; 0: nothing */

  GArray *recordings; /* of Recording, those of passes that were not recorded yet too */
  guint64 clock;
} ValleyDecoderRun;

/* @config and @frequencies (see valley_rotary_init) are the model's.  Caches of one pool at most go
 * through a run. */
void valley_decoder_run_init (ValleyDecoderRun *run, ValleyBackend *backend,
                              const ValleyLlmConfig *config, const float *frequencies);
void valley_decoder_run_clear (ValleyDecoderRun *run);

/* Room for passes of @rows rows, and for @n_logits rows' logits.  On failure the stream's error is
 * set. */
void valley_decoder_run_reserve (ValleyDecoderRun *run, ValleyStream *stream, gsize rows,
                                 gsize n_logits);
/* The scratch's first @rows rows. */
ValleyDecoderScratch valley_decoder_scratch_rows (const ValleyDecoderScratch *scratch, gsize rows);

/* The rows of one pass. */
typedef struct {
  ValleyKvCache *cache;    /* which has room for them */
  gsize first, n;          /* their places in it */
  const gint32 *positions; /* NULL: first + the cache's gap ... */
  const gint32 *ids;       /* of the embedding table; or NULL */
} ValleyPassRows;

/* The same for the operations: all of it on the device. */
typedef struct {
  ValleyKv kv;
  ValleyTensor positions, ids;
} ValleyPassPlace;

/* Tells the device.  On failure the stream's error is set. */
void valley_decoder_run_place (ValleyDecoderRun *run, ValleyStream *stream,
                               const ValleyPassRows *rows, ValleyPassPlace *place);

/* What tells recordings apart, besides what is in the device's memory. */
typedef struct {
  gsize rows, n_skipped; /* n_skipped: see ValleyAttention, in the last layer */
  ValleyRole role;
  gboolean has_logits;
  gboolean keeps_unrotated; /* the cache's pool */
  gsize most_rows;          /* as ValleyKv; valley_decoder_run_place has rounded it up */
} ValleyPassKey;

/* Enqueues a pass's operations: the same ones for the same key. */
typedef void (*ValleyPassFunc) (gpointer data);

/* Runs the pass directly, or records and runs it, or runs the recording. */
void valley_decoder_run_pass (ValleyDecoderRun *run, ValleyStream *stream, const ValleyPassKey *key,
                              ValleyPassFunc func, gpointer data);
