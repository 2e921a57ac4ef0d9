/* safetensors.c - fuzz target: a safetensors file, header and data.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"
#include "tensors.h"

gboolean
fuzz_target (const guint8 *data, gsize size)
{
  GError *error = NULL;
  /* From memory, where a byte too far is seen; a mapped file ends in a page of zeros. */
  ValleySafetensors *files
      = valley_safetensors_open_bytes (data, size, "model.safetensors", &error);

  if (files != NULL)
    fuzz_touch_tensors (files);
  fuzz_verdict (files != NULL, error, "model.safetensors");
  valley_safetensors_free (files);
  return files != NULL;
}
