/* decoder_run.c - see decoder_run.h.
 *
 * Recordings hold addresses: whatever moves (scratch, tables, positions' angles) ends them all.
 * SPDX-License-Identifier: Apache-2.0 */
#include "decoder_run.h"

#include "alloc.h"

#include <string.h>

/* Passes that are remembered; the one that was run least recently makes room. */
#define MAX_RECORDINGS 32
/* A pass recorded for so many rows of the cache serves all with fewer; twice as many are the next
 * size. */
#define MIN_BUCKET ((gsize) 256)

typedef struct {
  ValleyPassKey key;
  ValleyGraph *graph; /* NULL: it was run once, directly */
  gboolean is_vain;   /* the device would not record it */
  guint64 used;
} Recording;

void
valley_decoder_run_init (ValleyDecoderRun *run, ValleyBackend *backend,
                         const ValleyLlmConfig *config, const float *frequencies)
{
  *run = (ValleyDecoderRun){ .backend = backend,
                             .config = *config,
                             .recordings = g_array_new (FALSE, FALSE, sizeof (Recording)) };
  valley_rotary_init (&run->rotary, backend, frequencies, config->head_dim / 2);
}

static void
forget_recordings (ValleyDecoderRun *run)
{
  for (guint i = 0; i < run->recordings->len; i++) {
    ValleyGraph *graph = g_array_index (run->recordings, Recording, i).graph;

    if (graph != NULL)
      run->backend->ops->graph_free (run->backend, graph);
  }
  g_array_set_size (run->recordings, 0);
}

static void
clear_tensor (ValleyDecoderRun *run, ValleyTensor *tensor)
{
  if (tensor->memory != NULL)
    valley_tensor_clear (run->backend, tensor);
}

/* ---- scratch ---- */

static void
clear_scratch (ValleyDecoderRun *run)
{
  ValleyDecoderScratch *s = &run->scratch;
  ValleyTensor *tensors[]
      = { &s->normed, &s->q, &s->k, &s->v, &s->mixed, &s->delta, &s->gate, &s->up, &run->x };

  for (gsize i = 0; i < G_N_ELEMENTS (tensors); i++)
    clear_tensor (run, tensors[i]);
  run->most_rows = 0;
}

static void
make_scratch (ValleyDecoderRun *run, ValleyStream *stream, gsize rows)
{
  const ValleyLlmConfig *c = &run->config;
  ValleyDecoderScratch *s = &run->scratch;

  valley_activations_init (stream, &s->normed, rows, c->hidden_size);
  valley_activations_init (stream, &s->q, rows, c->n_heads * c->head_dim);
  valley_activations_init (stream, &s->k, rows, c->n_kv_heads * c->head_dim);
  valley_activations_init (stream, &s->v, rows, c->n_kv_heads * c->head_dim);
  valley_activations_init (stream, &s->mixed, rows, c->n_heads * c->head_dim);
  valley_activations_init (stream, &s->delta, rows, c->hidden_size);
  valley_activations_init (stream, &s->gate, rows, c->intermediate_size);
  valley_activations_init (stream, &s->up, rows, c->intermediate_size);
  valley_tensor_init (stream, &run->x, VALLEY_F32, rows, c->hidden_size);
}

void
valley_decoder_run_reserve (ValleyDecoderRun *run, ValleyStream *stream, gsize rows, gsize n_logits)
{
  if (valley_stream_stopped (stream))
    return;
  if (rows > run->most_rows) {
    forget_recordings (run);
    clear_scratch (run);
    make_scratch (run, stream, rows);
    if (valley_stream_stopped (stream))
      clear_scratch (run);
    else
      run->most_rows = rows;
  }
  if (n_logits > run->logits.rows && !valley_stream_stopped (stream)) {
    forget_recordings (run);
    clear_tensor (run, &run->logits);
    valley_tensor_init (stream, &run->logits, VALLEY_F32, n_logits, run->config.vocab_size);
    if (run->logits.memory == NULL)
      run->logits = (ValleyTensor){ 0 };
  }
}

ValleyDecoderScratch
valley_decoder_scratch_rows (const ValleyDecoderScratch *s, gsize rows)
{
  return (ValleyDecoderScratch){
    .normed = valley_tensor_rows (&s->normed, 0, rows),
    .q = valley_tensor_rows (&s->q, 0, rows),
    .k = valley_tensor_rows (&s->k, 0, rows),
    .v = valley_tensor_rows (&s->v, 0, rows),
    .mixed = valley_tensor_rows (&s->mixed, 0, rows),
    .delta = valley_tensor_rows (&s->delta, 0, rows),
    .gate = valley_tensor_rows (&s->gate, 0, rows),
    .up = valley_tensor_rows (&s->up, 0, rows),
  };
}

void
valley_decoder_run_clear (ValleyDecoderRun *run)
{
  if (run->backend == NULL)
    return;
  forget_recordings (run);
  g_array_unref (run->recordings);
  clear_scratch (run);
  clear_tensor (run, &run->logits);
  clear_tensor (run, &run->numbers);
  clear_tensor (run, &run->table);
  g_free (run->host_numbers);
  g_free (run->table_pages);
  valley_rotary_clear (&run->rotary);
  *run = (ValleyDecoderRun){ 0 };
}

/* ---- the rows' places ---- */

/* Room for @n numbers. */
static gboolean
reserve_numbers (ValleyDecoderRun *run, ValleyStream *stream, gsize n)
{
  gsize capacity = MAX (n, 2 * run->numbers.rows);
  gint32 *host;

  if (n <= run->numbers.rows)
    return TRUE;
  host = valley_alloc_resize (run->host_numbers, capacity, sizeof *host);
  if (host == NULL) {
    valley_stream_fail (stream, VALLEY_ERROR_MEMORY,
                        "not enough memory for the numbers of %" G_GSIZE_FORMAT " rows", n);
    return FALSE;
  }
  run->host_numbers = host;
  forget_recordings (run);
  clear_tensor (run, &run->numbers);
  valley_tensor_init (stream, &run->numbers, VALLEY_I32, capacity, 1);
  if (run->numbers.memory != NULL)
    return TRUE;
  run->numbers = (ValleyTensor){ 0 };
  return FALSE;
}

/* One upload for all of them.  A pass's rows are always as far into the numbers. */
static void
place_numbers (ValleyDecoderRun *run, ValleyStream *stream, const ValleyPassRows *rows,
               ValleyPassPlace *place)
{
  gsize n = rows->n, n_all = 1 + (rows->ids != NULL ? 2 : 1) * n, next = 0;
  gsize rotary_rows = run->rotary.cos.rows;
  gint32 *host;
  ValleyTensor all;

  if (!reserve_numbers (run, stream, n_all))
    return;
  host = run->host_numbers;
  host[0] = (gint32) rows->first;
  for (gsize i = 0; i < n; i++) {
    host[1 + i] = rows->positions != NULL ? rows->positions[i]
                                          : (gint32) (rows->first + rows->cache->gap + i);
    next = MAX (next, (gsize) host[1 + i] + 1);
  }
  if (rows->ids != NULL)
    memcpy (host + 1 + n, rows->ids, n * sizeof *host);
  valley_rotary_reserve (&run->rotary, stream, next);
  if (run->rotary.cos.rows != rotary_rows)
    forget_recordings (run);
  all = valley_tensor_rows (&run->numbers, 0, n_all);
  stream->ops->upload_ids (stream, &all, host);
  place->kv.first = valley_tensor_rows (&all, 0, 1);
  place->positions = valley_tensor_rows (&all, 1, n);
  if (rows->ids != NULL)
    place->ids = valley_tensor_rows (&all, 1 + n, n);
}

/* Room for @n pages. */
static gboolean
reserve_table (ValleyDecoderRun *run, ValleyStream *stream, gsize n)
{
  gsize capacity = MAX (n, MAX (64, 2 * run->table.rows));
  guint64 *pages;

  if (n <= run->table.rows)
    return TRUE;
  pages = valley_alloc0 (capacity, sizeof *pages);
  if (pages == NULL) {
    valley_stream_fail (stream, VALLEY_ERROR_MEMORY,
                        "not enough memory for a table of %" G_GSIZE_FORMAT " KV pages", capacity);
    return FALSE;
  }
  g_free (run->table_pages);
  run->table_pages = pages;
  forget_recordings (run);
  clear_tensor (run, &run->table);
  valley_tensor_init (stream, &run->table, VALLEY_I32, capacity, 2);
  if (run->table.memory != NULL)
    return TRUE;
  run->table = (ValleyTensor){ 0 };
  return FALSE;
}

/* Uploads the addresses of pages that are not what the table has in their places. */
static void
place_pages (ValleyDecoderRun *run, ValleyStream *stream, const ValleyPassRows *rows, ValleyKv *kv)
{
  if (stream->ops->upload_pages == NULL || valley_stream_stopped (stream)
      || !reserve_table (run, stream, kv->n_pages))
    return;
  for (gsize i = 0, first; i < kv->n_pages; i++) {
    for (first = i; i < kv->n_pages; i++) {
      guint64 id = valley_kv_cache_page_id (rows->cache, i);

      if (run->table_pages[i] == id)
        break;
      run->table_pages[i] = id;
    }
    if (i > first)
      stream->ops->upload_pages (stream, &run->table, first, kv->pages + first, i - first);
  }
  if (valley_stream_stopped (stream)) /* perhaps before all were there */
    memset (run->table_pages, 0, run->table.rows * sizeof *run->table_pages);
  kv->table = run->table;
}

void
valley_decoder_run_place (ValleyDecoderRun *run, ValleyStream *stream, const ValleyPassRows *rows,
                          ValleyPassPlace *place)
{
  gsize bucket = MIN_BUCKET;

  *place = (ValleyPassPlace){ .ids = { .memory = NULL } };
  valley_kv_cache_describe (rows->cache, stream, rows->first, rows->n, &place->kv);
  while (bucket < place->kv.most_rows && bucket <= G_MAXSIZE / 2)
    bucket *= 2;
  place->kv.most_rows = bucket;
  place_pages (run, stream, rows, &place->kv);
  if (!valley_stream_stopped (stream))
    place_numbers (run, stream, rows, place);
}

/* ---- recordings ---- */

static gboolean
same_key (const ValleyPassKey *a, const ValleyPassKey *b)
{
  return a->rows == b->rows && a->n_skipped == b->n_skipped && a->role == b->role
         && a->has_logits == b->has_logits && a->keeps_unrotated == b->keeps_unrotated
         && a->most_rows == b->most_rows;
}

/* NULL when no pass of the kind has run yet. */
static Recording *
find_recording (ValleyDecoderRun *run, const ValleyPassKey *key)
{
  for (guint i = 0; i < run->recordings->len; i++) {
    Recording *recording = &g_array_index (run->recordings, Recording, i);

    if (!same_key (&recording->key, key))
      continue;
    recording->used = ++run->clock;
    return recording;
  }
  return NULL;
}

static void
forget_oldest (ValleyDecoderRun *run)
{
  guint oldest = 0;
  ValleyGraph *graph;

  for (guint i = 1; i < run->recordings->len; i++)
    if (g_array_index (run->recordings, Recording, i).used
        < g_array_index (run->recordings, Recording, oldest).used)
      oldest = i;
  graph = g_array_index (run->recordings, Recording, oldest).graph;
  if (graph != NULL)
    run->backend->ops->graph_free (run->backend, graph);
  g_array_remove_index_fast (run->recordings, oldest);
}

/* The pass ran, whole: the next of its kind is recorded. */
static void
remember (ValleyDecoderRun *run, const ValleyPassKey *key)
{
  Recording fresh = { .key = *key, .used = ++run->clock };

  if (run->recordings->len == MAX_RECORDINGS)
    forget_oldest (run);
  g_array_append_val (run->recordings, fresh);
}

static void
record (ValleyStream *stream, Recording *recording, ValleyPassFunc func, gpointer data)
{
  if (!stream->ops->graph_begin (stream)) {
    recording->is_vain = TRUE;
    return;
  }
  func (data);
  recording->graph = stream->ops->graph_end (stream);
  recording->is_vain = recording->graph == NULL;
  if (!valley_stream_stopped (stream))
    return;
  if (recording->graph != NULL) /* cancelled, perhaps before all was recorded */
    stream->ops->graph_free (stream->backend, recording->graph);
  recording->graph = NULL;
  recording->is_vain = FALSE;
}

/* A pass runs directly until one has run to its end: a device settles on ways to compute at the
 * first run, and cannot while it records. */
void
valley_decoder_run_pass (ValleyDecoderRun *run, ValleyStream *stream, const ValleyPassKey *key,
                         ValleyPassFunc func, gpointer data)
{
  gboolean records = stream->ops->graph_begin != NULL;
  Recording *recording = NULL;

  if (valley_stream_stopped (stream))
    return;
  if (records)
    recording = find_recording (run, key);
  if (recording != NULL && recording->graph == NULL && !recording->is_vain)
    record (stream, recording, func, data);
  if (recording != NULL && recording->graph != NULL) {
    stream->ops->graph_run (stream, recording->graph);
    return;
  }
  func (data);
  if (records && recording == NULL && !valley_stream_stopped (stream))
    remember (run, key);
}
