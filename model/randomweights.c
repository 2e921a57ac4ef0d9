/* randomweights.c - tensors filled with small random numbers.
 *
 * Activations have to stay finite through any number of layers: a matrix is drawn as torch draws
 * a fresh linear layer, even within 1 / sqrt (columns), and norms multiply by one.
 * SPDX-License-Identifier: Apache-2.0 */
#include "randomweights.h"

#include "alloc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BF16_ONE 0x3f80

struct _ValleyRandomWeights {
  guint64 seed;
  GPtrArray *tensors; /* ValleySafetensor */
};

static void
tensor_free (gpointer data)
{
  ValleySafetensor *tensor = data;

  free ((gpointer) tensor->data);
  g_free (tensor->name);
  g_free (tensor);
}

ValleyRandomWeights *
valley_random_weights_new (guint64 seed)
{
  ValleyRandomWeights *weights = g_new0 (ValleyRandomWeights, 1);

  weights->seed = seed;
  weights->tensors = g_ptr_array_new_with_free_func (tensor_free);
  return weights;
}

void
valley_random_weights_free (ValleyRandomWeights *weights)
{
  if (weights == NULL)
    return;
  g_ptr_array_unref (weights->tensors);
  g_free (weights);
}

/* MurmurHash3's last step. */
static inline guint64
mix (guint64 z)
{
  z = (z ^ (z >> 33)) * G_GUINT64_CONSTANT (0xff51afd7ed558ccd);
  z = (z ^ (z >> 33)) * G_GUINT64_CONSTANT (0xc4ceb9fe1a85ec53);
  return z ^ (z >> 33);
}

static inline guint16
bf16_of (float x)
{
  guint32 bits;

  memcpy (&bits, &x, sizeof bits);
  return (guint16) (bits >> 16); /* toward zero: it is random anyway */
}

/* Four numbers from one draw, a full-size model has billions. */
static void
fill (guint16 *out, gsize n, guint64 state, float bound)
{
  for (gsize i = 0; i < n; i += 4) {
    guint64 bits = mix (state + i);

    for (gsize j = i; j < MIN (n, i + 4); j++, bits >>= 16)
      out[j] = bf16_of ((float) (gint16) bits * (bound / 32768));
  }
}

/* Every vector that is called a weight belongs to a norm; other vectors are biases. */
static gboolean
is_norm (const char *name, gsize n_dims)
{
  return n_dims == 1 && g_str_has_suffix (name, "weight");
}

static gboolean
allocate (ValleySafetensor *tensor)
{
  gsize n = 1;

  for (gsize i = 0; i < tensor->n_dims; i++)
    if (!g_size_checked_mul (&n, n, tensor->shape[i]))
      return FALSE;
  if (!g_size_checked_mul (&tensor->bytes, n, sizeof (guint16)))
    return FALSE;
  tensor->data = valley_alloc_aligned (tensor->bytes);
  return tensor->data != NULL;
}

const ValleySafetensor *
valley_random_weights_make (ValleyRandomWeights *weights, const char *name, const gsize *shape,
                            gsize n_dims)
{
  ValleySafetensor *tensor = g_new0 (ValleySafetensor, 1);
  guint64 state = mix (weights->seed);
  gsize n, cols;

  tensor->name = g_strdup (name);
  tensor->type = "BF16";
  tensor->is_weight = TRUE;
  tensor->dtype = VALLEY_BF16;
  tensor->n_dims = n_dims;
  memcpy (tensor->shape, shape, n_dims * sizeof *shape);
  tensor->path = "random weights";
  if (!allocate (tensor)) {
    tensor_free (tensor);
    return NULL;
  }
  g_ptr_array_add (weights->tensors, tensor);
  n = tensor->bytes / sizeof (guint16);
  cols = n_dims == 1 ? n : n / shape[0];
  for (const char *p = name; *p != '\0'; p++)
    state = mix (state ^ (guint8) *p);
  if (is_norm (name, n_dims))
    for (gsize i = 0; i < n; i++)
      ((guint16 *) tensor->data)[i] = BF16_ONE;
  else
    fill ((guint16 *) tensor->data, n, state, 1 / sqrtf ((float) cols));
  return tensor;
}
