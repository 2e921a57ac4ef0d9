/* index.c - fuzz target: model.safetensors.index.json beside three shards: two good ones that
 * share a tensor with a third.
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "fuzz.h"
#include "tensors.h"

static void
write_shard (const char *name, const char *header)
{
  gsize n = strlen (header);
  g_autofree guint8 *bytes = g_malloc0 (8 + n + 16);

  bytes[0] = (guint8) n; /* the headers below are shorter than 256 bytes */
  memcpy (bytes + 8, header, n);
  fuzz_write (name, bytes, 8 + n + 16);
}

gboolean
fuzz_target (const guint8 *data, gsize size)
{
  static gboolean prepared;
  ValleySafetensors *files;
  GError *error = NULL;

  if (!prepared) {
    write_shard ("a.safetensors",
                 "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}");
    write_shard ("b.safetensors",
                 "{\"b\":{\"dtype\":\"F16\",\"shape\":[2,4],\"data_offsets\":[0,16]}}");
    write_shard ("c.safetensors",
                 "{\"a\":{\"dtype\":\"U8\",\"shape\":[16],\"data_offsets\":[0,16]}}");
    prepared = TRUE;
  }
  fuzz_write ("model.safetensors.index.json", data, size);
  files = valley_safetensors_open (fuzz_dir (), &error);
  if (files != NULL)
    fuzz_touch_tensors (files);
  fuzz_verdict (files != NULL, error, fuzz_dir ());
  valley_safetensors_free (files);
  return files != NULL;
}
