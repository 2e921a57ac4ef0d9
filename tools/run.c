/* run.c - `valley run`: pictures and a question in, the answer out.
 * SPDX-License-Identifier: Apache-2.0 */
#include "run.h"

#include "npy_write.h"
#include "picture.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

/* Frames given as files carry no time: one a second. */
#define FRAME_NS G_GUINT64_CONSTANT (1000000000)

/* What a result does not tell. */
typedef struct {
  const char *device;
  double load_ms, first_token_ms;
} Times;

static double
milliseconds_since (gint64 start_us)
{
  return (double) (g_get_monotonic_time () - start_us) / 1000.0;
}

static ValleyModel *
open_model (const Options *options, GError **error)
{
  const ValleyModelOptions model_options
      = { .device = options->device, .precision = options->precision, .threads = options->threads };
  g_autofree char *dir
      = options->model_dir != NULL ? g_strdup (options->model_dir) : valley_default_model_dir ();
  ValleyModel *model;

  if (dir == NULL) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_NOT_FOUND,
                 "the bundled model was not found; expected --model DIR or VALLEY_MODEL_DIR");
    return NULL;
  }
  model = valley_model_open (dir, &model_options, error);
  if (model == NULL || valley_model_load (model, NULL, error))
    return model;
  valley_model_unref (model);
  return NULL;
}

/* ---- pictures ------------------------------------------------------------- */

static gboolean
push_picture (ValleyModel *model, ValleySession *session, const char *path, guint64 pts_ns,
              const ValleyReduction *reduction, gboolean tiled, GError **error)
{
  RgbPicture rgb = { 0 };
  ValleyPicture *picture;
  gboolean pushed;

  if (!rgb_picture_read (path, &rgb, error))
    return FALSE;
  if (tiled)
    picture = valley_picture_new_tiled (model, rgb.rgb, (gsize) rgb.width * 3, rgb.width,
                                        rgb.height, error);
  else
    picture = valley_picture_new_from_rgb (model, pts_ns, rgb.rgb, (gsize) rgb.width * 3, rgb.width,
                                           rgb.height, reduction, error);
  g_free (rgb.rgb);
  pushed = picture != NULL && valley_session_push (session, picture, FALSE, error);
  if (!pushed)
    g_prefix_error (error, "%s: ", path);
  valley_picture_unref (picture);
  return pushed;
}

static gboolean
push_pictures (ValleyModel *model, ValleySession *session, const Options *options, GError **error)
{
  ValleyReduction reduction = options->reduction;

  if (options->image != NULL)
    return push_picture (model, session, options->image, 0, NULL, TRUE, error);
  reduction.max_frames = options->frames->len;
  for (guint i = 0; i < options->frames->len; i++)
    if (!push_picture (model, session, g_ptr_array_index (options->frames, i), i * FRAME_NS,
                       &reduction, FALSE, error))
      return FALSE;
  return TRUE;
}

/* ---- answer --------------------------------------------------------------- */

static void
warn_of_room (const ValleyResult *result, const Options *options)
{
  guint max_new_tokens = options->max_new_tokens, budget = options->reduction.max_vision_tokens;

  if (budget > 0 && result->n_vision_tokens > budget)
    fprintf (stderr,
             "valley: --max-vision-tokens %u: these frames have at least %u with this "
             "--reduction\n",
             budget, result->n_vision_tokens);
  if (result->n_frames_dropped > 0)
    fprintf (stderr,
             "valley: %u of %u frames were left out, evenly: the model's context "
             "(max_position_embeddings) has no room for them\n",
             result->n_frames_dropped, result->n_frames + result->n_frames_dropped);
  if (result->max_new_tokens < max_new_tokens)
    fprintf (stderr,
             "valley: --max-new-tokens %u: the model's context (max_position_embeddings) has room "
             "for %u\n",
             max_new_tokens, result->max_new_tokens);
}

/* Below the answer, which is printed while it grows. */
static void
print_sections (const ValleyResult *result)
{
  const struct {
    const char *name, *text;
  } sections[] = { { "reasoning", result->reasoning },
                   { "summary", result->summary },
                   { "caption", result->caption },
                   { "conclusion", result->conclusion } };

  for (guint i = 0; i < G_N_ELEMENTS (sections); i++)
    if (sections[i].text != NULL)
      printf ("\n%s:\n%s\n", sections[i].name, sections[i].text);
}

/* @first_token_ms becomes what the first step took. */
static gboolean
print_answer (ValleySession *session, double *first_token_ms, GError **error)
{
  gint64 start = g_get_monotonic_time ();
  gsize printed = 0;
  ValleyStep step;

  *first_token_ms = -1;
  do {
    const char *text;

    step = valley_session_next (session, error);
    if (*first_token_ms < 0)
      *first_token_ms = milliseconds_since (start);
    text = valley_session_result (session)->text;
    if (strlen (text) > printed) {
      fputs (text + printed, stdout);
      fflush (stdout);
      printed = strlen (text);
    }
  } while (step == VALLEY_STEP_TOKEN);
  fputc ('\n', stdout);
  if (step == VALLEY_STEP_ERROR)
    return FALSE;
  print_sections (valley_session_result (session));
  if (fflush (stdout) == 0 && !ferror (stdout))
    return TRUE;
  g_set_error (error, G_IO_ERROR, G_IO_ERROR_FAILED, "cannot write to standard output");
  return FALSE;
}

static void
print_metrics (const ValleyResult *result, const Times *times)
{
  struct rusage usage;

  fprintf (stderr, "device            %s\n", times->device);
  fprintf (stderr, "finish reason     %s\n", result->finish_reason);
  fprintf (stderr, "confidence        %.3f\n", result->confidence);
  fprintf (stderr, "frames            %u\n", result->n_frames);
  fprintf (stderr, "input tokens      %u, of them %u of pictures, %u reused\n",
           result->n_input_tokens, result->n_vision_tokens, result->n_reused_tokens);
  if (result->n_vision_tokens < result->n_vision_tokens_before)
    fprintf (stderr, "reduced           from %u tokens of pictures\n",
             result->n_vision_tokens_before);
  fprintf (stderr, "output tokens     %u\n", result->n_output_tokens);
  fprintf (stderr, "load              %.1f ms\n", times->load_ms);
  fprintf (stderr, "encode            %.1f ms\n", result->encode_ms);
  fprintf (stderr, "prefill           %.1f ms\n", result->prefill_ms);
  fprintf (stderr, "first token       %.1f ms after the question\n",
           result->prefill_ms + times->first_token_ms);
  fprintf (stderr, "decode            %.1f ms", result->decode_ms);
  if (result->n_output_tokens > 1)
    fprintf (stderr, ", %.1f ms a further token",
             (result->decode_ms - times->first_token_ms) / (result->n_output_tokens - 1));
  if (getrusage (RUSAGE_SELF, &usage) == 0)
    fprintf (stderr, "\nmemory            %.1f MB at its peak, mapped weights included\n",
             (double) usage.ru_maxrss * 1024 / 1e6);
}

static gboolean
write_logits (ValleySession *session, const char *path, GError **error)
{
  gsize n_steps, n_vocabulary;
  const float *logits = valley_session_logits (session, &n_steps, &n_vocabulary);

  if (npy_write (path, logits, n_steps, n_vocabulary, error))
    return TRUE;
  g_prefix_error (error, "cannot write the logits to %s: ", path);
  return FALSE;
}

static gboolean
answer (ValleySession *session, const Options *options, Times *times, GError **error)
{
  const ValleyRequest request = { .prompt = options->prompt,
                                  .system_prompt = options->system_prompt,
                                  .max_new_tokens = options->max_new_tokens,
                                  .temperature = options->temperature,
                                  .top_k = options->top_k,
                                  .top_p = options->top_p,
                                  .seed = options->seed,
                                  .markers = options->markers };

  if (!valley_session_begin (session, &request, error))
    return FALSE;
  warn_of_room (valley_session_result (session), options);
  if (!print_answer (session, &times->first_token_ms, error))
    return FALSE;
  if (options->metrics)
    print_metrics (valley_session_result (session), times);
  return options->logits_path == NULL || write_logits (session, options->logits_path, error);
}

static gboolean
make_dump_dir (const char *dir, GError **error)
{
  if (dir == NULL || g_mkdir_with_parents (dir, 0777) == 0)
    return TRUE;
  g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_READ, "cannot make the folder %s", dir);
  return FALSE;
}

gboolean
run_command (const Options *options, GError **error)
{
  const ValleySessionOptions session_options
      = { .dump_dir = options->dump_dir, .keep_logits = options->logits_path != NULL };
  gint64 start = g_get_monotonic_time ();
  ValleyModel *model;
  ValleySession *session = NULL;
  Times times = { 0 };
  gboolean done = FALSE;

  if (!make_dump_dir (options->dump_dir, error))
    return FALSE;
  model = open_model (options, error);
  times.load_ms = milliseconds_since (start);
  if (model != NULL) {
    times.device = valley_model_device (model);
    session = valley_session_new (model, &session_options, error);
  }
  if (session != NULL)
    done = push_pictures (model, session, options, error)
           && answer (session, options, &times, error);
  valley_session_free (session);
  valley_model_unref (model);
  return done;
}
