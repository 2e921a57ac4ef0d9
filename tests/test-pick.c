/* test-pick.c - the operation that chooses tokens, by the cases of pick-cases.h, and the one that
 * tells it what was seen; on the strict CPU backend.
 * SPDX-License-Identifier: Apache-2.0 */
#include "device.h"
#include "pick-cases.h"

static Device d;

/* Empty without @words. */
static ValleyTensor
upload_words (gconstpointer words, gsize n)
{
  ValleyTensor tensor = { 0 };

  if (words != NULL)
    valley_tensor_init_ids (d.stream, &tensor, words, n);
  return tensor;
}

static void
run (const Case *c, gsize first, gsize rows, gint32 *picks)
{
  gsize n_allowed = c->allowed_stride > 0 ? rows : 1;
  ValleyTensor seen = upload_words (c->seen, c->n_words), out;
  ValleyTensor inputs = upload_words (c->has_inputs ? c->inputs + first : NULL, rows);
  ValleyTensor draws = upload_words (c->draws + 2 * first, 2 * rows), allowed_rows = { 0 };
  ValleyTensor allowed = upload_words (
      c->allowed == NULL ? NULL : c->allowed + first * c->allowed_stride, n_allowed * c->n_words);
  Guarded logits = guarded_new (&d, VALLEY_F32, rows, c->n, c->logits + first * c->n);
  ValleyPick options = c->options;
  g_autoptr (GError) error = NULL;

  if (c->allowed != NULL)
    allowed_rows = valley_tensor_reshape (&allowed, n_allowed, c->n_words);
  options.seen = &seen;
  options.inputs = &inputs;
  options.draws = &draws;
  options.allowed = &allowed_rows;
  valley_tensor_init (d.stream, &out, VALLEY_I32, rows, 2);
  OPS (d)->pick (d.stream, &out, &logits.view, &options);
  OPS (d)->download_ids (d.stream, &out, picks, &error);
  g_assert_no_error (error);
  g_free (guarded_read (&d, &logits)); /* nothing changed around it */
  valley_tensor_clear (d.backend, &seen);
  valley_tensor_clear (d.backend, &inputs);
  valley_tensor_clear (d.backend, &draws);
  valley_tensor_clear (d.backend, &allowed);
  valley_tensor_clear (d.backend, &out);
  guarded_clear (&d, &logits);
}

static void
test_see (void)
{
  static const guint32 before[] = { 1, 0, 0x80000000 }, after[] = { 0x80000001, 2, 0x80000000 };
  static const gint32 ids[] = { 31, -1, 33, 96, -2147483647 - 1, 2147483647, 95, 33 };
  ValleyTensor seen = upload_words (before, 3), numbers = upload_words (ids, G_N_ELEMENTS (ids));
  g_autoptr (GError) error = NULL;
  guint32 got[3];

  OPS (d)->see (d.stream, &seen, &numbers);
  OPS (d)->download_ids (d.stream, &seen, (gint32 *) got, &error);
  g_assert_no_error (error);
  g_assert_cmpmem (got, sizeof got, after, sizeof after);
  valley_tensor_clear (d.backend, &seen);
  valley_tensor_clear (d.backend, &numbers);
}

/* Tensors that do not belong together are told, not read: the CPU looks for all devices. */
static void
test_unfit (void)
{
  static const float zeros[66] = { 0 };
  ValleyTensor logits, picks, words = upload_words ((const gint32[]){ 0, 0 }, 2);
  ValleyPick fits = { .top_p = 1, .repetition_penalty = 2 };
  ValleyPick bad[] = { fits, fits, fits, fits };

  bad[0].seen = &words;    /* of 64 tokens */
  bad[1].temperature = 1;  /* and no random numbers */
  bad[2].allowed = &words; /* a column */
  bad[3].inputs = &words;  /* of 2 rows */
  valley_tensor_init (d.stream, &logits, VALLEY_F32, 1, 66);
  valley_tensor_init (d.stream, &picks, VALLEY_I32, 1, 2);
  OPS (d)->upload (d.stream, &logits, zeros);
  for (gsize i = 0; i < G_N_ELEMENTS (bad); i++) {
    g_autoptr (GError) error = NULL;
    gint32 got[2];

    OPS (d)->pick (d.stream, &picks, &logits, &bad[i]);
    g_assert_false (OPS (d)->download_ids (d.stream, &picks, got, &error));
    g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_DEVICE);
  }
  valley_tensor_clear (d.backend, &logits);
  valley_tensor_clear (d.backend, &picks);
  valley_tensor_clear (d.backend, &words);
}

int
main (int argc, char **argv)
{
  int status;

  g_test_init (&argc, &argv, NULL);
  compare_init ("pick");
  d = device_new (VALLEY_PRECISION_F32, 2, TRUE);
  pick_cases_add (run);
  g_test_add_func ("/pick/see", test_see);
  if (test_on_cpu ())
    g_test_add_func ("/pick/unfit", test_unfit);
  status = g_test_run ();
  device_clear (&d);
  return status;
}
