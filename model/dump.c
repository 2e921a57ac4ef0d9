/* dump.c - stages written out as .npy files.
 * SPDX-License-Identifier: Apache-2.0 */
#include "dump.h"

#include "alloc.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define NPY_ALIGNMENT 64 /* the data starts at a multiple of this */

ValleyDump
valley_dump_named (const char *dir, const char *format, ...)
{
  ValleyDump dump = { dir, "" };
  va_list args;

  va_start (args, format);
  g_vsnprintf (dump.name, sizeof dump.name, format, args);
  va_end (args);
  return dump;
}

gboolean
valley_dump_is_on (const ValleyDump *dump)
{
  return dump != NULL && dump->dir != NULL;
}

static GString *
npy_header (gsize rows, gsize cols)
{
  GString *header = g_string_new_len ("\x93NUMPY\x01\x00\x00\x00", 10);
  gsize text;

  /* '<': little-endian, whatever this machine is */
  g_string_append_printf (header,
                          "{'descr': '<f4', 'fortran_order': False, 'shape': (%" G_GSIZE_FORMAT
                          ", %" G_GSIZE_FORMAT "), }",
                          rows, cols);
  while ((header->len + 1) % NPY_ALIGNMENT != 0)
    g_string_append_c (header, ' ');
  g_string_append_c (header, '\n');
  text = header->len - 10;
  header->str[8] = (char) (text & 0xff);
  header->str[9] = (char) (text >> 8);
  return header;
}

static gboolean
write_floats (FILE *file, const float *data, gsize n)
{
#if G_BYTE_ORDER == G_LITTLE_ENDIAN
  return fwrite (data, sizeof *data, n, file) == n;
#else
  for (gsize i = 0; i < n; i++) {
    guint32 bits;

    memcpy (&bits, &data[i], sizeof bits);
    bits = GUINT32_TO_LE (bits);
    if (fwrite (&bits, sizeof bits, 1, file) != 1)
      return FALSE;
  }
  return TRUE;
#endif
}

gboolean
valley_npy_write (const char *dir, const char *name, const float *data, gsize rows, gsize cols,
                  GError **error)
{
  g_autofree char *base = g_strconcat (name, ".npy", NULL);
  g_autofree char *path = g_build_filename (dir, base, NULL);
  g_autoptr (GString) header = npy_header (rows, cols);
  FILE *file = fopen (path, "wb");
  gboolean ok = file != NULL && fwrite (header->str, 1, header->len, file) == header->len
                && write_floats (file, data, rows * cols);

  if (file != NULL && fclose (file) != 0)
    ok = FALSE;
  if (!ok)
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_READ, "%s: cannot write: %s", path,
                 g_strerror (errno));
  return ok;
}

void
valley_dump_tensor (const ValleyDump *dump, ValleyStream *stream, const ValleyTensor *tensor,
                    const char *format, ...)
{
  g_autofree char *part = NULL, *name = NULL;
  g_autofree float *data = NULL;
  g_autoptr (GError) error = NULL;
  va_list args;

  if (!valley_dump_is_on (dump) || valley_stream_stopped (stream))
    return;
  data = VALLEY_NEW (float, tensor->rows * tensor->cols);
  if (data == NULL) {
    valley_stream_fail (stream, VALLEY_ERROR_MEMORY, "not enough memory to dump a stage");
    return;
  }
  va_start (args, format);
  part = g_strdup_vprintf (format, args);
  va_end (args);
  name = dump->name[0] != '\0' ? g_strconcat (dump->name, ".", part, NULL) : g_strdup (part);
  if (!stream->ops->download (stream, tensor, data, &error)
      || !valley_npy_write (dump->dir, name, data, tensor->rows, tensor->cols, &error))
    valley_stream_fail (stream, error->code, "%s", error->message);
}
