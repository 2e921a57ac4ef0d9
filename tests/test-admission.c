/* test-admission.c - what window policies are predicted to need, against what a schedule makes
 * of real pages; what is refused, and how it is said.
 *
 * GOLDEN_DIR: tests/golden.
 * SPDX-License-Identifier: Apache-2.0 */
#include "admission.h"
#include "alloc.h"
#include "compare.h"
#include "device.h"
#include "engine.h"
#include "kvcache.h"
#include "schedule.h"

/* ---- peaks ---- */

/* Sequences of pages without contents. */
typedef struct {
  Device device;
  ValleyKvPool *pool;
  ValleySchedule *schedule;
  GHashTable *caches; /* id -> ValleyKvCache */
  ValleyKvCache header;
  gsize frame_rows, tail_rows;
  guint64 end, peak, peak_frames;
} Peaks;

static void
cache_free (gpointer data)
{
  valley_kv_cache_clear (data);
  g_free (data);
}

static void
note_peak (Peaks *p)
{
  g_assert_false (valley_stream_stopped (p->device.stream));
  p->peak = MAX (p->peak, valley_kv_pool_bytes_used (p->pool));
  p->peak_frames = MAX (p->peak_frames, p->end - valley_schedule_keep_from (p->schedule));
}

static void
append_rows (Peaks *p, ValleyKvCache *cache, gsize n)
{
  valley_kv_cache_reserve (cache, p->device.stream, cache->length + n);
  valley_kv_cache_set_length (cache, cache->length + n);
  note_peak (p);
}

static ValleyKvCache *
cache_of (Peaks *p, guint64 id)
{
  ValleyKvCache *cache = g_hash_table_lookup (p->caches, &id);

  if (cache == NULL) {
    cache = g_new0 (ValleyKvCache, 1);
    valley_kv_cache_fork (cache, &p->header, p->device.stream);
    g_hash_table_insert (p->caches, g_memdup2 (&id, sizeof id), cache);
  }
  return cache;
}

/* Its rows move up; those of shared pages are copied first. */
static void
evict (Peaks *p, ValleyKvCache *cache, guint n)
{
  valley_kv_cache_own (cache, p->device.stream, p->header.length);
  note_peak (p);
  valley_kv_cache_set_length (cache, cache->length - n * p->frame_rows);
}

static void
do_unit (Peaks *p, const ValleyScheduleUnit *unit)
{
  ValleyKvCache *cache = cache_of (p, unit->sequence);

  if (unit->n_evict > 0)
    evict (p, cache, unit->n_evict);
  append_rows (p, cache, unit->n_frames * p->frame_rows);
  valley_schedule_done (p->schedule, unit);
}

static void
free_ended (Peaks *p)
{
  guint64 id;

  while ((id = valley_schedule_take_ended (p->schedule)) != 0)
    g_hash_table_remove (p->caches, &id);
}

static void
complete (Peaks *p, guint64 id)
{
  ValleyScheduleUnit unit;

  while (valley_schedule_sequence_unit (p->schedule, id, &unit))
    do_unit (p, &unit);
}

static void
answer (Peaks *p, guint64 first)
{
  ValleyScheduleAnswer who;
  ValleyKvCache forks[2] = { { 0 }, { 0 } };
  guint64 ids[2];

  g_assert_true (valley_schedule_ask (p->schedule, first, &who));
  free_ended (p);
  ids[0] = who.sequence;
  ids[1] = who.drifted;
  for (guint i = 0; i < 2; i++)
    if (ids[i] != 0) {
      complete (p, ids[i]);
      valley_kv_cache_fork (&forks[i], cache_of (p, ids[i]), p->device.stream);
      append_rows (p, &forks[i], p->tail_rows);
    }
  for (guint i = 0; i < 2; i++)
    valley_kv_cache_clear (&forks[i]);
}

/* A stream of windows W frames long, H apart; the work is done now or late, at random. */
static void
run_stream (Peaks *p, const ValleyWindowing *windowing)
{
  const guint window = windowing->window_frames, hop = windowing->hop_frames;
  guint64 first = 0;

  while (p->end < 5 * (guint64) window + 20) {
    ValleyScheduleUnit unit;

    valley_schedule_drop_before (p->schedule, first);
    valley_schedule_push (p->schedule, p->end++ % hop == 0);
    free_ended (p);
    note_peak (p);
    for (gboolean now = g_rand_boolean (rng);
         now && valley_schedule_next_unit (p->schedule, &unit);) {
      free_ended (p);
      do_unit (p, &unit);
    }
    if (p->end == first + window) {
      answer (p, first);
      first += hop;
    }
  }
}

static void
check_peak (ValleyConfig *config, ValleyPrecision precision)
{
  ValleyWindowing windowing = { .policy = g_rand_int_range (rng, 0, 4),
                                .window_frames = g_rand_int_range (rng, 1, 24),
                                .reanchor_hops = g_rand_int_range (rng, 1, 12) };
  gsize vision = g_rand_int_range (rng, 0, 4) == 0 ? 1 : g_rand_int_range (rng, 2, 150);
  gsize cols = config->llm.n_kv_heads * config->llm.head_dim;
  Peaks p = { .device = device_new (precision, 1, FALSE),
              .frame_rows = vision + g_rand_int_range (rng, 0, VALLEY_FRAME_TEXT_ROWS + 1),
              .tail_rows = g_rand_int_range (rng, 1, VALLEY_USUAL_TAIL_ROWS + 1) };
  ValleyCacheNeed need;

  windowing.hop_frames = g_rand_int_range (rng, 1, windowing.window_frames + 1);
  p.pool = valley_kv_pool_new (p.device.backend, config->llm.n_layers, cols, 0);
  g_assert_true (
      valley_kv_pool_set_unrotated (p.pool, windowing.policy == VALLEY_WINDOWS_STREAMING));
  p.schedule = valley_schedule_new (&windowing);
  p.caches = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, cache_free);
  valley_kv_cache_init (&p.header, p.pool);
  append_rows (&p, &p.header, g_rand_int_range (rng, 1, VALLEY_USUAL_HEADER_ROWS + 1));
  run_stream (&p, &windowing);
  valley_cache_need (config, precision, TRUE, &windowing, vision, &need);
  if (p.peak > need.kv_bytes
      || p.peak_frames * vision * config->llm.hidden_size * 4 > need.encoding_bytes)
    g_error ("policy %d, W %u, H %u, %zu tokens: %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT
             " bytes of KV, %" G_GUINT64_FORMAT " frames",
             windowing.policy, windowing.window_frames, windowing.hop_frames, vision, p.peak,
             need.kv_bytes, p.peak_frames);
  valley_kv_cache_clear (&p.header);
  g_hash_table_unref (p.caches);
  valley_schedule_free (p.schedule);
  valley_kv_pool_free (p.pool);
  device_clear (&p.device);
}

static void
test_peaks (void)
{
  ValleyConfig config = { 0 };

  config.llm.n_layers = 1;
  config.llm.n_kv_heads = 1;
  config.llm.head_dim = 2;
  config.llm.hidden_size = 8;
  config.llm.max_position_embeddings = 4096;
  for (guint i = 0; i < 300; i++)
    check_peak (&config, i % 2 == 0 ? VALLEY_PRECISION_F32 : VALLEY_PRECISION_BF16);
}

/* By hand, for 7 B and 16 frames of 392 tokens: a prediction far above what is needed would
 * refuse what fits. */
static void
test_release (void)
{
  static const struct {
    ValleyWindowPolicy policy;
    double least_gb, most_gb;
  } cases[] = { { VALLEY_WINDOWS_TUMBLING, 0.36, 0.45 },
                { VALLEY_WINDOWS_ANCHORED, 1.08, 1.2 },
                { VALLEY_WINDOWS_SLIDING, 3.0, 3.4 },
                { VALLEY_WINDOWS_STREAMING, 1.08, 1.3 } };
  ValleyConfig config = { 0 };

  config.llm.n_layers = 28;
  config.llm.n_kv_heads = 4;
  config.llm.head_dim = 128;
  config.llm.hidden_size = 3584;
  config.llm.max_position_embeddings = 32768;
  for (gsize i = 0; i < G_N_ELEMENTS (cases); i++) {
    ValleyWindowing windowing = { .policy = cases[i].policy, .window_frames = 16, .hop_frames = 1 };
    ValleyCacheNeed need;

    valley_cache_need (&config, VALLEY_PRECISION_BF16, TRUE, &windowing, 392, &need);
    g_test_message ("policy %d: %.2f GB of KV, %.2f GB of encodings", cases[i].policy,
                    need.kv_bytes / 1e9, need.encoding_bytes / 1e9);
    g_assert_cmpfloat (need.kv_bytes / 1e9, >=, cases[i].least_gb);
    g_assert_cmpfloat (need.kv_bytes / 1e9, <=, cases[i].most_gb);
  }
}

/* A window of an hour is shown in as many frames as the context holds. */
static void
test_long_window (void)
{
  ValleyConfig config = { 0 };
  ValleyWindowing windowing = { .policy = VALLEY_WINDOWS_TUMBLING };
  ValleyCacheNeed unknown, full, more, fewer;

  config.llm.n_layers = config.llm.n_kv_heads = config.llm.head_dim = config.llm.hidden_size = 1;
  config.llm.max_position_embeddings = 1000;
  valley_cache_need (&config, VALLEY_PRECISION_F32, TRUE, &windowing, 96, &unknown);
  windowing.window_frames = 10;
  valley_cache_need (&config, VALLEY_PRECISION_F32, TRUE, &windowing, 96, &full);
  windowing.window_frames = 7200;
  valley_cache_need (&config, VALLEY_PRECISION_F32, TRUE, &windowing, 96, &more);
  windowing.window_frames = 9;
  valley_cache_need (&config, VALLEY_PRECISION_F32, TRUE, &windowing, 96, &fewer);
  g_assert_cmpuint (full.most_frames, ==, 10);
  g_assert_cmpuint (unknown.kv_bytes, ==, full.kv_bytes);
  g_assert_cmpuint (more.kv_bytes, ==, full.kv_bytes);
  g_assert_cmpuint (more.encoding_bytes, ==, full.encoding_bytes);
  g_assert_cmpuint (fewer.encoding_bytes, <, full.encoding_bytes);
}

static void
test_overflow (void)
{
  ValleyConfig config = { 0 };

  config.llm.n_layers = 1000000;
  config.llm.n_kv_heads = 1000000;
  config.llm.head_dim = 1000000;
  config.llm.hidden_size = 1000000;
  config.llm.max_position_embeddings = 1000000;
  for (guint policy = 0; policy <= VALLEY_WINDOWS_STREAMING; policy++) {
    ValleyWindowing windowing = { .policy = policy, .window_frames = G_MAXUINT, .hop_frames = 1 };
    ValleyCacheNeed need;

    valley_cache_need (&config, VALLEY_PRECISION_F32, TRUE, &windowing, G_MAXUINT64 / 2, &need);
    g_assert_cmpuint (need.kv_bytes, ==, G_MAXUINT64);
    g_assert_cmpuint (need.encoding_bytes, ==, G_MAXUINT64);
    g_assert_cmpuint (need.rows, >, G_MAXUINT64 / 2);
  }
}

/* ---- decisions ---- */

static ValleyModel *
open_golden (ValleyInputSizes *sizes)
{
  g_autofree char *dir = g_build_filename (g_getenv ("GOLDEN_DIR"), "ovis-softmax", NULL);
  ValleyModelOptions options = { .precision = VALLEY_PRECISION_F32 };
  GError *error = NULL;
  ValleyModel *model = valley_model_open (dir, &options, &error);

  g_assert_no_error (error);
  valley_model_input_sizes (model, 100, 100, NULL, sizes, &error);
  g_assert_no_error (error);
  return model;
}

static void
assert_says (const GError *error, gint code, const char *first, ...)
{
  va_list words;

  g_assert_error (error, VALLEY_ERROR, code);
  va_start (words, first);
  for (const char *word = first; word != NULL; word = va_arg (words, const char *))
    if (strstr (error->message, word) == NULL)
      g_error ("expected \"%s\" in: %s", word, error->message);
  va_end (words);
}

static void
test_admits (void)
{
  ValleyWindowing windowing
      = { .policy = VALLEY_WINDOWS_SLIDING, .window_frames = 4, .hop_frames = 1 };
  g_autoptr (GError) error = NULL;
  g_autofree char *need_text = NULL, *bound_text = NULL;
  ValleyInputSizes sizes;
  ValleyModel *model = open_golden (&sizes);
  guint64 need, tumbling_need, again;

  g_assert_true (valley_model_admits (model, &windowing, &sizes, &need, &error));
  g_assert_no_error (error);
  windowing.policy = VALLEY_WINDOWS_TUMBLING;
  g_assert_true (valley_model_admits (model, &windowing, &sizes, &tumbling_need, &error));
  g_assert_cmpuint (tumbling_need, <, need);

  windowing.policy = VALLEY_WINDOWS_SLIDING;
  windowing.cache_max_bytes = need; /* just enough */
  g_assert_true (valley_model_admits (model, &windowing, &sizes, &again, &error));
  g_assert_cmpuint (again, ==, need);
  windowing.cache_max_bytes = need - 1;
  g_assert_false (valley_model_admits (model, &windowing, &sizes, &again, &error));
  g_assert_cmpuint (again, ==, need);
  need_text = g_strdup_printf ("%" G_GUINT64_FORMAT, need);
  bound_text = g_strdup_printf ("%" G_GUINT64_FORMAT, need - 1);
  assert_says (error, VALLEY_ERROR_MEMORY, "sliding", need_text, bound_text, "tumbling, which fits",
               NULL);
  g_clear_error (&error);

  windowing.cache_max_bytes = 1;
  g_assert_false (valley_model_admits (model, &windowing, &sizes, &again, &error));
  assert_says (error, VALLEY_ERROR_MEMORY, "the cache's bound", NULL);
  g_assert_null (strstr (error->message, "which fits"));
  valley_model_unref (model);
}

static void
test_context (void)
{
  ValleyWindowing windowing
      = { .policy = VALLEY_WINDOWS_ANCHORED, .window_frames = 1000000, .hop_frames = 1 };
  g_autoptr (GError) error = NULL;
  ValleyInputSizes sizes;
  ValleyModel *model = open_golden (&sizes);
  guint64 need;

  g_assert_false (valley_model_admits (model, &windowing, &sizes, &need, &error));
  assert_says (error, VALLEY_ERROR_CONTEXT, "anchored", "2000000 frames", "max_position_embeddings",
               NULL);
  valley_model_unref (model);
}

static void
test_settings (void)
{
  static const struct {
    ValleyWindowing windowing;
    const char *says;
  } cases[] = {
    { { .policy = 17, .window_frames = 4, .hop_frames = 1 }, "window policy 17" },
    { { .policy = VALLEY_WINDOWS_ANCHORED, .window_frames = 4 }, "4 frames, 0 apart" },
    { { .policy = VALLEY_WINDOWS_SLIDING, .hop_frames = 1 }, "0 frames, 1 apart" },
    { { .policy = VALLEY_WINDOWS_STREAMING, .window_frames = 4, .hop_frames = 5 }, "5 apart" },
    { { .max_drift = -1 }, "max_drift -1" },
    { { .max_drift = NAN }, "max_drift nan" },
  };
  ValleyInputSizes sizes;
  ValleyModel *model = open_golden (&sizes);
  guint64 need;

  for (gsize i = 0; i < G_N_ELEMENTS (cases); i++) {
    g_autoptr (GError) error = NULL;

    g_assert_false (valley_model_admits (model, &cases[i].windowing, &sizes, &need, &error));
    assert_says (error, VALLEY_ERROR_ARGUMENT, cases[i].says, NULL);
  }
  valley_model_unref (model);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  compare_init ("admission");
  g_test_add_func ("/admission/peaks", test_peaks);
  g_test_add_func ("/admission/release", test_release);
  g_test_add_func ("/admission/long-window", test_long_window);
  g_test_add_func ("/admission/overflow", test_overflow);
  g_test_add_func ("/admission/admits", test_admits);
  g_test_add_func ("/admission/context", test_context);
  g_test_add_func ("/admission/settings", test_settings);
  return g_test_run ();
}
