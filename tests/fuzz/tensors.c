/* tensors.c - touching everything that an opened checkpoint promises; see tensors.h.
 * SPDX-License-Identifier: Apache-2.0 */
#include "tensors.h"

#include "weights.h"

static volatile guint8 last_sum; /* or the compiler would leave out the reading */

static void
load (ValleyWeights *weights, const ValleySafetensor *tensor)
{
  ValleyTensor loaded;

  if (tensor->n_dims == 1)
    valley_weights_vector (weights, tensor->name, tensor->shape[0], &loaded);
  else if (tensor->n_dims == 2)
    valley_weights_matrix (weights, tensor->name, tensor->shape[0], tensor->shape[1], &loaded);
  else if (tensor->n_dims > 2)
    valley_weights_conv (weights, tensor->name, tensor->n_dims, tensor->shape, &loaded);
}

void
fuzz_touch_tensors (const ValleySafetensors *files)
{
  ValleyBackend *backend = valley_cpu_backend_new (VALLEY_PRECISION_BF16, 1, FALSE, NULL);
  ValleyWeights *weights = valley_weights_new (files, backend, NULL);
  guint8 sum = 0;
  GError *error = NULL;

  for (gsize i = 0; i < valley_safetensors_n_tensors (files); i++) {
    const ValleySafetensor *tensor = valley_safetensors_get (files, i);

    if (valley_safetensors_find (files, tensor->name) != tensor)
      g_error ("\"%s\" is listed and not found", tensor->name);
    for (gsize b = 0; b < tensor->bytes; b++)
      sum += tensor->data[b];
    load (weights, tensor);
  }
  last_sum = sum;
  valley_weights_finish (weights, &error); /* other types than weights' are refused here */
  g_clear_error (&error);
  valley_weights_free (weights);
  backend->ops->backend_free (backend);
}
