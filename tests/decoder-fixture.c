/* decoder-fixture.c - see decoder-fixture.h.
 * SPDX-License-Identifier: Apache-2.0 */
#include "decoder-fixture.h"

enum { LAYERS = 3, HEADS = 4, KV_HEADS = 2, DIM = 12, INNER = 80, KV_COLS = KV_HEADS * DIM };

typedef struct {
  double keys[LAYERS][KV_COLS]; /* before their rotation */
  double values[LAYERS][KV_COLS];
  gint32 position;
} ReferenceRow;

/* ---- the engine's ---- */

/* A weight around @middle; its elements as the device rounded them are kept for the reference. */
static ValleyTensor
make_weight (SmallDecoder *small, ValleyDType type, gsize rows, gsize cols, float middle)
{
  g_autofree float *values = random_floats (rows * cols, middle != 0 ? 0.3 : 0.35);
  float *host = g_new (float, rows *cols);
  ValleyTensor tensor;

  for (gsize i = 0; i < rows * cols; i++)
    values[i] += middle;
  valley_tensor_init (small->device.stream, &tensor, type, rows, cols);
  OPS (small->device)->upload (small->device.stream, &tensor, values);
  g_assert_true (OPS (small->device)->download (small->device.stream, &tensor, host, NULL));
  g_hash_table_insert (small->host, tensor.memory, host);
  return tensor;
}

static void
make_layer (SmallDecoder *small, ValleyDecoderLayer *l, ValleyDType type)
{
  gsize h = SMALL_HIDDEN, queries = HEADS * DIM;
  const ValleyLlmConfig *c = &small->llm.config;

  l->input_norm = make_weight (small, VALLEY_F32, 1, h, 1);
  l->post_norm = make_weight (small, VALLEY_F32, 1, h, 1);
  l->q = make_weight (small, type, queries, h, 0);
  l->k = make_weight (small, type, KV_COLS, h, 0);
  l->v = make_weight (small, type, KV_COLS, h, 0);
  l->o = make_weight (small, type, h, queries, 0);
  if (c->qkv_bias) {
    l->q_bias = make_weight (small, VALLEY_F32, 1, queries, 0);
    l->k_bias = make_weight (small, VALLEY_F32, 1, KV_COLS, 0);
    l->v_bias = make_weight (small, VALLEY_F32, 1, KV_COLS, 0);
  }
  if (c->qk_norm) {
    l->q_norm = make_weight (small, VALLEY_F32, 1, DIM, 1);
    l->k_norm = make_weight (small, VALLEY_F32, 1, DIM, 1);
  }
  l->gate = make_weight (small, type, INNER, h, 0);
  l->up = make_weight (small, type, INNER, h, 0);
  l->down = make_weight (small, type, h, INNER, 0);
}

SmallDecoder *
small_decoder_new (GRand *rand, ValleyPrecision precision, guint threads, gboolean strict,
                   gboolean qwen3)
{
  SmallDecoder *small = g_new0 (SmallDecoder, 1);
  ValleyDType type = precision == VALLEY_PRECISION_BF16 ? VALLEY_BF16 : VALLEY_F32;
  ValleyDecoder *llm = &small->llm;

  rng = rand;
  small->device = device_new (precision, threads, strict);
  small->host = g_hash_table_new_full (NULL, NULL, NULL, g_free);
  llm->config = (ValleyLlmConfig){ .hidden_size = SMALL_HIDDEN,
                                   .intermediate_size = INNER,
                                   .n_layers = LAYERS,
                                   .n_heads = HEADS,
                                   .n_kv_heads = KV_HEADS,
                                   .head_dim = DIM,
                                   .vocab_size = SMALL_VOCABULARY,
                                   .max_position_embeddings = 4096,
                                   .qkv_bias = !qwen3,
                                   .qk_norm = qwen3,
                                   .rms_norm_eps = 1e-6f };
  llm->frequencies = g_new (float, DIM / 2);
  for (guint i = 0; i < DIM / 2; i++)
    llm->frequencies[i] = powf (1000, -2.0f * (float) i / DIM);
  llm->layers = g_new0 (ValleyDecoderLayer, LAYERS);
  for (guint i = 0; i < LAYERS; i++)
    make_layer (small, &llm->layers[i], type);
  llm->norm = make_weight (small, VALLEY_F32, 1, SMALL_HIDDEN, 1);
  llm->embeddings = llm->head = make_weight (small, type, SMALL_VOCABULARY, SMALL_HIDDEN, 0);
  valley_decoder_run_init (&small->run, small->device.backend, &llm->config, llm->frequencies);
  small->pool = valley_kv_pool_new (small->device.backend, LAYERS, KV_COLS, 0);
  return small;
}

void
small_decoder_free (SmallDecoder *small)
{
  GHashTableIter iter;
  gpointer memory;

  g_hash_table_iter_init (&iter, small->host);
  while (g_hash_table_iter_next (&iter, &memory, NULL))
    OPS (small->device)->memory_free (small->device.backend, memory);
  g_hash_table_unref (small->host);
  valley_decoder_run_clear (&small->run);
  valley_kv_pool_free (small->pool);
  valley_decoder_clear (&small->llm);
  device_clear (&small->device);
  g_free (small);
}

float *
small_decoder_forward (SmallDecoder *small, ValleyKvCache *cache, const float *x, gsize n,
                       const gint32 *positions, ValleyRole role, gsize rows_at_once)
{
  ValleyStream *stream = small->device.stream;
  ValleyForward forward = { .cache = cache,
                            .run = &small->run,
                            .positions = positions,
                            .role = role,
                            .rows_at_once = rows_at_once,
                            .all_rows = TRUE };
  float *out = g_new (float, n *SMALL_HIDDEN);
  g_autoptr (GError) error = NULL;
  ValleyTensor rows;

  valley_tensor_init (stream, &rows, VALLEY_F32, n, SMALL_HIDDEN);
  stream->ops->upload (stream, &rows, x);
  valley_decoder_forward (&small->llm, stream, &forward, &rows);
  stream->ops->download (stream, &rows, out, &error);
  g_assert_no_error (error);
  valley_tensor_clear (stream->backend, &rows);
  return out;
}

/* ---- the reference ---- */

Reference *
reference_new (SmallDecoder *small)
{
  Reference *reference = g_new (Reference, 1);

  reference->small = small;
  reference->rows = g_array_new (FALSE, FALSE, sizeof (ReferenceRow));
  return reference;
}

void
reference_free (Reference *reference)
{
  g_array_unref (reference->rows);
  g_free (reference);
}

static const float *
host_of (const Reference *reference, const ValleyTensor *weight)
{
  return weight->memory == NULL ? NULL
                                : g_hash_table_lookup (reference->small->host, weight->memory);
}

static void
multiply (const Reference *r, double *y, const double *x, const ValleyTensor *weight,
          const ValleyTensor *bias)
{
  const float *w = host_of (r, weight), *b = bias != NULL ? host_of (r, bias) : NULL;

  for (gsize i = 0; i < weight->rows; i++) {
    y[i] = b != NULL ? b[i] : 0;
    for (gsize j = 0; j < weight->cols; j++)
      y[i] += w[i * weight->cols + j] * x[j];
  }
}

static void
normalise (const Reference *r, double *y, const double *x, const ValleyTensor *weight)
{
  const float *w = host_of (r, weight);
  double sum = 0;

  for (gsize i = 0; i < weight->cols; i++)
    sum += x[i] * x[i];
  for (gsize i = 0; i < weight->cols; i++)
    y[i] = w[i] * x[i] / sqrt (sum / (double) weight->cols + 1e-6);
}

static void
normalise_heads (const Reference *r, double *x, gsize n_heads, const ValleyTensor *weight)
{
  for (gsize i = 0; weight->memory != NULL && i < n_heads; i++)
    normalise (r, x + i * DIM, x + i * DIM, weight);
}

static void
rotate (const Reference *r, double *y, const double *x, gint32 position)
{
  for (gsize i = 0; i < DIM / 2; i++) {
    double angle = (float) position * r->small->llm.frequencies[i];

    y[i] = x[i] * cos (angle) - x[i + DIM / 2] * sin (angle);
    y[i + DIM / 2] = x[i + DIM / 2] * cos (angle) + x[i] * sin (angle);
  }
}

/* What one query head, turned, gets of all rows. */
static void
attend (const Reference *r, gsize layer, gsize head, const double *query, double *out)
{
  const ReferenceRow *rows = (const ReferenceRow *) r->rows->data;
  gsize column = head / (HEADS / KV_HEADS) * DIM;
  double sum = 0;

  for (gsize i = 0; i < DIM; i++)
    out[i] = 0;
  for (gsize i = 0; i < r->rows->len; i++) {
    double key[DIM], score = 0;

    rotate (r, key, rows[i].keys[layer] + column, rows[i].position);
    for (gsize j = 0; j < DIM; j++)
      score += query[j] * key[j];
    score = exp (score / sqrt (DIM));
    sum += score;
    for (gsize j = 0; j < DIM; j++)
      out[j] += score * rows[i].values[layer][column + j];
  }
  for (gsize i = 0; i < DIM; i++)
    out[i] /= sum;
}

/* The last row through one layer; its keys and values enter the row. */
static void
run_layer (Reference *r, gsize layer, double *x)
{
  const ValleyDecoderLayer *l = &r->small->llm.layers[layer];
  ReferenceRow *row = &g_array_index (r->rows, ReferenceRow, r->rows->len - 1);
  double normed[SMALL_HIDDEN], q[HEADS * DIM], mixed[HEADS * DIM], delta[SMALL_HIDDEN];
  double gate[INNER], up[INNER];

  normalise (r, normed, x, &l->input_norm);
  multiply (r, q, normed, &l->q, &l->q_bias);
  multiply (r, row->keys[layer], normed, &l->k, &l->k_bias);
  multiply (r, row->values[layer], normed, &l->v, &l->v_bias);
  normalise_heads (r, q, HEADS, &l->q_norm);
  normalise_heads (r, row->keys[layer], KV_HEADS, &l->k_norm);
  for (gsize i = 0; i < HEADS; i++) {
    double query[DIM];

    rotate (r, query, q + i * DIM, row->position);
    attend (r, layer, i, query, mixed + i * DIM);
  }
  multiply (r, delta, mixed, &l->o, NULL);
  for (gsize i = 0; i < SMALL_HIDDEN; i++)
    x[i] += delta[i];
  normalise (r, normed, x, &l->post_norm);
  multiply (r, gate, normed, &l->gate, NULL);
  multiply (r, up, normed, &l->up, NULL);
  for (gsize i = 0; i < INNER; i++)
    gate[i] = gate[i] / (1 + exp (-gate[i])) * up[i];
  multiply (r, delta, gate, &l->down, NULL);
  for (gsize i = 0; i < SMALL_HIDDEN; i++)
    x[i] += delta[i];
}

double *
reference_forward (Reference *r, const float *x, gsize n, const gint32 *positions)
{
  double *out = g_new (double, n *SMALL_HIDDEN);

  for (gsize i = 0; i < n; i++) {
    ReferenceRow row = { .position = positions != NULL ? positions[i] : (gint32) r->rows->len };

    g_array_append_val (r->rows, row);
    for (gsize j = 0; j < SMALL_HIDDEN; j++)
      out[i * SMALL_HIDDEN + j] = x[i * SMALL_HIDDEN + j];
    for (gsize layer = 0; layer < LAYERS; layer++)
      run_layer (r, layer, out + i * SMALL_HIDDEN);
  }
  return out;
}

void
reference_remove (Reference *r, gsize first, gsize n)
{
  g_array_remove_range (r->rows, (guint) first, (guint) n);
  for (guint i = 0; i < r->rows->len; i++)
    g_array_index (r->rows, ReferenceRow, i).position = (gint32) i;
}

void
reference_set_position (Reference *r, guint row, gint32 position)
{
  g_array_index (r->rows, ReferenceRow, row).position = position;
}
