/* room.c - counts what the weights will take on the device before the first of them is copied:
 * a checkpoint takes a while to read, and "out of memory" at its end says little.
 * SPDX-License-Identifier: Apache-2.0 */
#include "room.h"

/* As they lie on the device: matrices and biases in the precision's type, the rest in f32. */
static gsize
weight_bytes (const ValleyModel *model, const ValleyWeights *weights)
{
  gsize narrow, vectors;

  valley_weights_elements (weights, &narrow, &vectors);
  return narrow * (model->precision == VALLEY_PRECISION_F32 ? 4 : 2) + vectors * 4;
}

static gsize
resident_bytes (const ValleyModel *model)
{
  ValleyWeights *weights = valley_weights_new (model->files, NULL, NULL);
  ValleyStages stages;
  gsize bytes;

  valley_stages_init (&stages, model->config, weights);
  bytes = weight_bytes (model, weights);
  valley_stages_clear (&stages);
  valley_weights_free (weights);
  return bytes;
}

gboolean
valley_model_has_room (const ValleyModel *model, GError **error)
{
  const ValleyOps *ops = model->backend->ops;
  gsize available, total, needed;

  if (ops->memory_info == NULL || model->files == NULL
      || !ops->memory_info (model->backend, &available, &total))
    return TRUE;
  needed = resident_bytes (model);
  if (needed <= available)
    return TRUE;
  g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_MEMORY,
               "%s: the weights need %" G_GSIZE_FORMAT " MiB on device \"%s\", which has "
               "%" G_GSIZE_FORMAT " of %" G_GSIZE_FORMAT
               " MiB free: %sanother device, a smaller model, or the CPU (device=cpu)",
               model->config->dir, needed >> 20, model->device.name, available >> 20, total >> 20,
               model->precision == VALLEY_PRECISION_F32 ? "precision=bf16 halves that; else " : "");
  return FALSE;
}

guint64
valley_model_spare_bytes (ValleyModel *model)
{
  gsize available, total, weights;
  gboolean loaded;

  g_mutex_lock (&model->lock);
  loaded = model->state == VALLEY_LOAD_DONE;
  g_mutex_unlock (&model->lock);
  if (!loaded || model->backend->ops->memory_info == NULL
      || !model->backend->ops->memory_info (model->backend, &available, &total))
    return G_MAXUINT64;
  weights = weight_bytes (model, model->weights);
  return total > weights ? total - weights : 0;
}
