/* test-cuda-pick.c - the kernels that choose tokens, by the cases of pick-cases.h.  Runs on the
 * stand-in for the CUDA runtime; without VALLEY_CUDA_EMU it is a program for a GPU.
 * SPDX-License-Identifier: Apache-2.0 */
#include "on-device.h"

#include "../pick-cases.h"

/* Rows @first ... of the case, @stride apart there. */
static void
run (const Case *c, gsize first, gsize rows, gint32 *picks)
{
  gsize stride = c->n + (gsize) g_rand_int_range (rng, 0, 5);
  g_autofree float *spread = g_new0 (float, rows *stride);
  gint32 inputs[MAX_ROWS];
  ValleyCudaPick options = { .temperature = c->options.temperature,
                             .top_p = c->options.top_p,
                             .repetition_penalty = c->options.repetition_penalty,
                             .top_k = c->options.top_k };
  ValleyCudaMatrix logits = { NULL, VALLEY_CUDA_F32, rows, c->n, stride };
  gpointer on_device, scratch;

#ifdef VALLEY_CUDA_EMU
  emu_set_seed (g_rand_int (rng)); /* another order of blocks, warps and lanes */
#endif
  for (gsize i = 0; i < rows; i++)
    memcpy (spread + i * stride, c->logits + (first + i) * c->n, c->n * sizeof *spread);
  for (gsize i = 0; i < rows; i++) /* a row alone has seen one of those before it, too */
    inputs[i] = c->inputs[first + i];
  logits.data = to_device (spread, rows * stride * sizeof *spread);
  options.seen = to_device (c->seen, c->n_words * sizeof *c->seen);
  options.inputs = c->has_inputs ? to_device (inputs, sizeof inputs) : NULL;
  options.allowed_stride = c->allowed_stride;
  options.allowed
      = to_device (c->allowed == NULL ? NULL : c->allowed + first * c->allowed_stride,
                   (c->allowed_stride == 0 ? 1 : rows) * c->n_words * sizeof *c->allowed);
  options.draws = to_device (c->draws + 2 * first, 2 * rows * sizeof *c->draws);
  CHECK (cudaMalloc (&on_device, 2 * rows * sizeof *picks));
  CHECK (cudaMalloc (&scratch, valley_cuda_pick_scratch (rows, c->n, &options)));
  CHECK (valley_cuda_pick (on_device, &logits, &options, scratch, stream));
  CHECK (
      cudaMemcpyAsync (picks, on_device, 2 * rows * sizeof *picks, cudaMemcpyDeviceToHost, stream));
  if (cudaStreamSynchronize (stream) != cudaSuccess)
    g_error ("picking from %" G_GSIZE_FORMAT " x %" G_GSIZE_FORMAT ": %s", rows, c->n, fault ());
  CHECK (cudaFree (logits.data));
  CHECK (cudaFree ((void *) options.seen));
  CHECK (cudaFree ((void *) options.inputs));
  CHECK (cudaFree ((void *) options.allowed));
  CHECK (cudaFree ((void *) options.draws));
  CHECK (cudaFree (on_device));
  CHECK (cudaFree (scratch));
}

static void
test_see (void)
{
  for (guint i = 0; i < 30; i++) {
    gsize n_words = (gsize) g_rand_int_range (rng, 1, 40),
          n = (gsize) g_rand_int_range (rng, 1, 700);
    gsize stride = 1 + i % 2;
    g_autofree guint32 *want = g_new (guint32, n_words), *got = g_new (guint32, n_words);
    g_autofree gint32 *ids = g_new (gint32, n * stride);
    gpointer seen, device_ids;

    for (gsize j = 0; j < n_words; j++)
      want[j] = g_rand_int (rng) & g_rand_int (rng);
    seen = to_device (want, n_words * sizeof *want);
    for (gsize j = 0; j < n * stride; j++)
      ids[j] = g_rand_int_range (rng, -300, (gint32) n_words * 40);
    for (gsize j = 0; j < n; j++) {
      gint32 id = ids[j * stride];

      if (id >= 0 && (gsize) id / 32 < n_words)
        want[id / 32] |= 1u << id % 32;
    }
    device_ids = to_device (ids, n * stride * sizeof *ids);
    CHECK (valley_cuda_see (seen, n_words, device_ids, n, stride, stream));
    CHECK (cudaMemcpyAsync (got, seen, n_words * sizeof *got, cudaMemcpyDeviceToHost, stream));
    CHECK (cudaStreamSynchronize (stream));
    g_assert_cmpmem (got, n_words * sizeof *got, want, n_words * sizeof *want);
    CHECK (cudaFree (seen));
    CHECK (cudaFree (device_ids));
  }
}

/* Nothing to do is no error; more words than sums can count are refused. */
static void
test_limits (void)
{
  ValleyCudaPick greedy = { .top_p = 1, .repetition_penalty = 1 };
  ValleyCudaMatrix none = { NULL, VALLEY_CUDA_F32, 0, 5, 5 };
  ValleyCudaMatrix many = { NULL, VALLEY_CUDA_F32, 1, ((gsize) 1 << 22) + 1, (gsize) 1 << 23 };

  g_assert_cmpuint (valley_cuda_pick_scratch (0, 5, &greedy), ==, 0);
  CHECK (valley_cuda_pick (NULL, &none, &greedy, NULL, stream));
  CHECK (valley_cuda_see (NULL, 0, NULL, 0, 1, stream));
  g_assert_cmpint (valley_cuda_pick (NULL, &many, &greedy, NULL, stream), ==,
                   cudaErrorInvalidValue);
}

int
main (int argc, char **argv)
{
  int status;

  g_test_init (&argc, &argv, NULL);
  compare_init ("cuda-pick");
  CHECK (cudaStreamCreateWithFlags (&stream, cudaStreamNonBlocking));
  pick_cases_add (run);
  g_test_add_func ("/pick/see", test_see);
  g_test_add_func ("/pick/limits", test_limits);
  status = g_test_run ();
  CHECK (cudaStreamDestroy (stream));
  return status;
}
