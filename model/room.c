/* room.c - counts what the weights will take on the device before the first of them is copied:
 * a checkpoint takes a while to read, and "out of memory" at its end says little.
 * SPDX-License-Identifier: Apache-2.0 */
#include "room.h"

/* As they will lie on the device: matrices and biases in the precision's type, the
 * rest in f32. */
static gsize
resident_bytes (const ValleyModel *model)
{
  ValleyWeights *weights = valley_weights_new (model->files, NULL, NULL);
  ValleyStages stages;
  gsize narrow, vectors;

  valley_stages_init (&stages, model->config, weights);
  valley_weights_elements (weights, &narrow, &vectors);
  valley_stages_clear (&stages);
  valley_weights_free (weights);
  return narrow * (model->precision == VALLEY_PRECISION_F32 ? 4 : 2) + vectors * 4;
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
