/* count-valley.c - what a model's stages move and multiply on a GPU: the engine runs on the
 * stand-in that counts (cuda-emu/watch.h), and this prints its counts for each stage as JSON.
 *
 *     VALLEY_CUDA_WING=libvalley-cuda-watched.so count-valley FOLDER FRAMES FRAMES...
 *     count-valley FOLDER
 *
 * FOLDER holds config.json and a tokenizer; weights are made up.  A question is asked each time
 * the window holds FRAMES frames; -FRAMES are only encoded.  No GPU, and no arithmetic of products:
 * figures, not answers.  Without FRAMES nothing runs: what a stream's windows need follows from
 * config.json alone.  tools/gpu_roofline.py reads both.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "valley.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

enum { WIDTH = 1920, HEIGHT = 1080, FRAME_MS = 40, TOKENS = 2 };
/* The stream that is spoken of: 25 frames a second, asked every second. */
enum { WINDOW = 32, HOP = 25, COUNTED_WINDOWS = 512 };

/* The stand-in's own calls, which only its wing knows. */
typedef struct {
  void (*reset) (void);
  const char *(*json) (void);
  void (*set_device_bytes) (size_t bytes);
  int (*synchronize) (void);
} Counter;

typedef struct {
  Counter counter;
  ValleyModel *model;
  ValleySession *session;
  guint n_frames, n_phases;
  GRand *rng;
} Count;

static gpointer
symbol (gpointer handle, const char *name)
{
  gpointer address = dlsym (handle, name);

  if (address == NULL)
    g_printerr ("count-valley: no %s in the wing; expected the one that counts\n", name);
  return address;
}

static gboolean
find_counter (Counter *counter)
{
  const char *wing = g_getenv ("VALLEY_CUDA_WING");
  gpointer handle = wing != NULL ? dlopen (wing, RTLD_NOW) : NULL;

  if (handle == NULL) {
    g_printerr ("count-valley: expected VALLEY_CUDA_WING: %s\n", wing != NULL ? dlerror () : "");
    return FALSE;
  }
  counter->reset = symbol (handle, "emu_count_reset");
  counter->json = symbol (handle, "emu_count_json");
  counter->set_device_bytes = symbol (handle, "emu_set_device_bytes");
  counter->synchronize = symbol (handle, "cudaDeviceSynchronize");
  return counter->reset != NULL && counter->json != NULL && counter->set_device_bytes != NULL
         && counter->synchronize != NULL;
}

/* What was done since the last call. */
static void
print_phase (Count *count, const char *phase, guint rows, guint context)
{
  count->counter.synchronize ();
  printf ("%s\n{\"phase\": \"%s\", \"rows\": %u, \"context\": %u, \"counts\":\n %s}",
          count->n_phases++ > 0 ? "," : "", phase, rows, context, count->counter.json ());
  count->counter.reset ();
}

static guint64
rows_so_far (Count *count)
{
  ValleySessionStats stats;

  valley_session_stats (count->session, &stats);
  return stats.frame_rows + stats.text_rows;
}

static gboolean
take_frame (Count *count, gboolean append, GError **error)
{
  g_autofree guint8 *rgb = g_malloc (WIDTH * HEIGHT * 3);
  guint64 before = rows_so_far (count), start;
  ValleyPicture *picture;
  gboolean more = append, ok;

  for (gsize i = 0; i < WIDTH * HEIGHT * 3; i++)
    rgb[i] = (guint8) g_rand_int (count->rng);
  picture = valley_picture_new_from_rgb (count->model, count->n_frames * FRAME_MS * 1000000ull, rgb,
                                         WIDTH * 3, WIDTH, HEIGHT, NULL, error);
  ok = picture != NULL
       && valley_session_push (count->session, picture, count->n_frames == 0, error);
  valley_picture_unref (picture);
  if (!ok)
    return FALSE;
  count->n_frames++;
  print_phase (count, "frame", 1, 0);
  start = before;
  while (more)
    if (!valley_session_work (count->session, &more, error))
      return FALSE;
  if (append)
    print_phase (count, "append", (guint) (rows_so_far (count) - start), (guint) before);
  return TRUE;
}

static gboolean
ask (Count *count, GError **error)
{
  const ValleyRequest request = { .prompt = "What happens?", .max_new_tokens = TOKENS };
  guint64 before = rows_so_far (count);
  const ValleyResult *result;
  ValleyStep step;

  if (!valley_session_begin (count->session, &request, error))
    return FALSE;
  result = valley_session_result (count->session);
  print_phase (count, "question", (guint) (rows_so_far (count) - before),
               result->n_input_tokens - (guint) (rows_so_far (count) - before));
  for (guint i = 0; i < TOKENS; i++) {
    step = valley_session_next (count->session, error);
    if (step == VALLEY_STEP_ERROR)
      return FALSE;
    result = valley_session_result (count->session);
    print_phase (count, i == 0 ? "first" : "token", 1, result->n_input_tokens + i);
  }
  return TRUE;
}

static gboolean
run (Count *count, const char *dir, int n, char **frames, GError **error)
{
  const ValleyModelOptions options
      = { .device = "cuda", .precision = VALLEY_PRECISION_BF16, .random_seed = 1 };
  const ValleySessionOptions session_options = { .no_draft = TRUE };

  count->counter.set_device_bytes ((size_t) 48 << 30);
  count->model = valley_model_open (dir, &options, error);
  if (count->model == NULL || !valley_model_load (count->model, NULL, error))
    return FALSE;
  count->session = valley_session_new (count->model, &session_options, error);
  if (count->session == NULL)
    return FALSE;
  print_phase (count, "load", 0, 0);
  for (int i = 0; i < n; i++) {
    long wanted = strtol (frames[i], NULL, 10);

    while (count->n_frames < labs (wanted))
      if (!take_frame (count, wanted > 0, error))
        return FALSE;
    if (wanted > 0 && !ask (count, error))
      return FALSE;
  }
  return TRUE;
}

/* Of the policy `anchored`. */
static gboolean
print_windows (const char *dir, GError **error)
{
  const ValleyModelOptions options = { .device = "cpu", .precision = VALLEY_PRECISION_BF16 };
  const ValleyWindowing windowing
      = { .policy = VALLEY_WINDOWS_ANCHORED, .window_frames = WINDOW, .hop_frames = HOP };
  ValleyModel *model = valley_model_open (dir, &options, error);
  ValleyWindowingCounts counts;
  ValleyInputSizes sizes;
  guint64 bytes;
  gboolean ok = model != NULL
                && valley_model_input_sizes (model, WIDTH, HEIGHT, NULL, &sizes, error)
                && valley_model_admits (model, &windowing, &sizes, &bytes, error)
                && valley_windowing_count (&windowing, COUNTED_WINDOWS, &counts, error);

  if (ok)
    printf ("{\"window\": %d, \"hop\": %d, \"tokens\": %u, \"bytes\": %" G_GUINT64_FORMAT
            ", \"appends_per_frame\": %.4f, \"most_frames\": %u}\n",
            WINDOW, HOP, sizes.n_tokens, bytes,
            (double) counts.frames_prefilled / (double) counts.frames_pushed,
            valley_model_most_frames (model, &sizes));
  valley_model_unref (model);
  return ok;
}

int
main (int argc, char **argv)
{
  Count count = { .rng = g_rand_new_with_seed (1) };
  g_autoptr (GError) error = NULL;
  gboolean ok;

  if (argc < 2) {
    g_printerr ("count-valley: expected FOLDER [FRAMES...]\n");
    return 2;
  }
  if (argc == 2) {
    ok = print_windows (argv[1], &error);
    if (!ok)
      g_printerr ("count-valley: %s\n", error->message);
    g_rand_free (count.rng);
    return ok ? 0 : 1;
  }
  if (!find_counter (&count.counter))
    return 1;
  printf ("{\"phases\": [");
  ok = run (&count, argv[1], argc - 2, argv + 2, &error);
  printf ("]}\n");
  if (!ok)
    g_printerr ("count-valley: %s\n", error->message);
  valley_session_free (count.session);
  valley_model_unref (count.model);
  g_rand_free (count.rng);
  return ok ? 0 : 1;
}
