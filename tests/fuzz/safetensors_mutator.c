/* safetensors_mutator.c - lets the fuzzer change the header without always being sent away for
 * its length: after seven mutations of eight the eight bytes before it say where it ends.
 * SPDX-License-Identifier: Apache-2.0 */
#include <glib.h>
#include <string.h>

gsize LLVMFuzzerMutate (guint8 *data, gsize size, gsize max_size);
gsize LLVMFuzzerCustomMutator (guint8 *data, gsize size, gsize max_size, unsigned int seed);

gsize
LLVMFuzzerCustomMutator (guint8 *data, gsize size, gsize max_size, unsigned int seed)
{
  guint64 length;

  size = LLVMFuzzerMutate (data, size, max_size);
  if (size < 8 || seed % 8 == 0)
    return size;
  length = size - 8;
  for (gsize i = size; i-- > 8;)
    if (data[i] == '}') {
      length = i - 7;
      break;
    }
  length = GUINT64_TO_LE (length);
  memcpy (data, &length, 8);
  return size;
}
