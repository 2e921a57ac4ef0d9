/* engine-fixture.c - a model with one session, and questions to it.
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine-fixture.h"

#include <string.h>

#include "which-device.h"

char *
golden_dir (const char *name)
{
  return g_build_filename (g_getenv ("GOLDEN_DIR"), name, NULL);
}

ValleyModel *
open_model (const char *dir, ValleyPrecision precision)
{
  ValleyModelOptions options = { .device = test_device (), .precision = precision, .threads = 2 };
  GError *error = NULL;
  ValleyModel *model = valley_model_open (dir, &options, &error);

  g_assert_no_error (error);
  return model;
}

void
fixture_open (Fixture *f, const char *dir, ValleyPrecision precision)
{
  GError *error = NULL;

  f->model = open_model (dir, precision);
  valley_model_load (f->model, NULL, &error);
  g_assert_no_error (error);
  f->session
      = valley_session_new (f->model, &(ValleySessionOptions){ .keep_logits = TRUE }, &error);
  g_assert_no_error (error);
}

void
fixture_close (Fixture *f)
{
  valley_session_free (f->session);
  valley_model_unref (f->model);
}

void
fixture_setup (Fixture *f, gconstpointer data)
{
  g_autofree char *dir = golden_dir (data != NULL ? data : "ovis-softmax");

  fixture_open (f, dir, VALLEY_PRECISION_F32);
}

void
fixture_teardown (Fixture *f, gconstpointer data)
{
  fixture_close (f);
}

/* A picture of its own for every number. */
ValleyPicture *
make_picture (ValleyModel *model, guint number)
{
  guint width = 64 + 8 * number, height = 48;
  g_autofree guint8 *rgb = g_malloc (3 * width * height);
  GError *error = NULL;
  ValleyPicture *picture;

  for (guint i = 0; i < 3 * width * height; i++)
    rgb[i] = (guint8) (i * (number + 3) + i / 97);
  picture = valley_picture_new_from_rgb (model, number * FRAME_NS, rgb, 3 * width, width, height,
                                         NULL, &error);
  g_assert_no_error (error);
  return picture;
}

gboolean
fixture_push (Fixture *f, guint number, GError **error)
{
  ValleyPicture *picture = make_picture (f->model, number);
  gboolean ok = valley_session_push (f->session, picture, FALSE, error);

  valley_picture_unref (picture);
  return ok;
}

void
fixture_push_frames (Fixture *f, guint first, guint last)
{
  GError *error = NULL;

  for (guint i = first; i <= last; i++) {
    g_assert_true (fixture_push (f, i, &error));
    g_assert_no_error (error);
  }
}

/* Begins and steps to the end; FALSE with the first error. */
gboolean
fixture_run (Fixture *f, const ValleyRequest *request, GError **error)
{
  ValleyStep step = VALLEY_STEP_TOKEN;

  if (!valley_session_begin (f->session, request, error))
    return FALSE;
  while (step == VALLEY_STEP_TOKEN)
    step = valley_session_next (f->session, error);
  return step == VALLEY_STEP_DONE;
}

void
answer_take (Fixture *f, Answer *answer)
{
  const ValleyResult *result = valley_session_result (f->session);
  gsize n_steps, n_vocabulary;
  const float *logits = valley_session_logits (f->session, &n_steps, &n_vocabulary);

  answer->n_ids = MIN (result->n_output_tokens, G_N_ELEMENTS (answer->ids));
  memcpy (answer->ids, result->output_ids, answer->n_ids * sizeof *answer->ids);
  answer->text = g_strdup (result->text);
  answer->n_logits = n_steps * n_vocabulary;
  answer->logits = g_memdup2 (logits, answer->n_logits * sizeof *logits);
}

void
answer_clear (Answer *answer)
{
  g_free (answer->text);
  g_free (answer->logits);
}

void
fixture_ask (Fixture *f, guint max_new_tokens, Answer *answer)
{
  ValleyRequest request = { .prompt = QUESTION, .max_new_tokens = max_new_tokens };
  GError *error = NULL;

  g_assert_true (fixture_run (f, &request, &error));
  g_assert_no_error (error);
  answer_take (f, answer);
}

void
answer_assert_same (const Answer *a, const Answer *b)
{
  g_assert_cmpuint (a->n_ids, >, 0);
  g_assert_cmpuint (a->n_ids, ==, b->n_ids);
  g_assert_cmpmem (a->ids, a->n_ids * sizeof *a->ids, b->ids, b->n_ids * sizeof *b->ids);
  g_assert_cmpmem (a->logits, a->n_logits * sizeof (float), b->logits,
                   b->n_logits * sizeof (float));
  g_assert_cmpstr (a->text, ==, b->text);
}
