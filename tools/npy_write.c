/* npy_write.c - NumPy's format, version 1.0: magic, a Python dictionary, little-endian data.
 * SPDX-License-Identifier: Apache-2.0 */
#include "npy_write.h"

#define PREFIX_BYTES 10 /* magic, version, the dictionary's length */
#define ALIGNMENT 64    /* of the data within the file */

static GString *
npy_header (gsize rows, gsize cols)
{
  GString *header = g_string_new_len ("\x93NUMPY\x01\0\0\0", PREFIX_BYTES);
  gsize length;

  g_string_append_printf (header,
                          "{'descr': '%sf4', 'fortran_order': False, 'shape': (%" G_GSIZE_FORMAT
                          ", %" G_GSIZE_FORMAT "), }",
                          G_BYTE_ORDER == G_LITTLE_ENDIAN ? "<" : ">", rows, cols);
  while (header->len % ALIGNMENT != ALIGNMENT - 1)
    g_string_append_c (header, ' ');
  g_string_append_c (header, '\n');
  length = header->len - PREFIX_BYTES;
  header->str[8] = (char) (length & 0xFF);
  header->str[9] = (char) (length >> 8);
  return header;
}

gboolean
npy_write (const char *path, const float *data, gsize rows, gsize cols, GError **error)
{
  g_autoptr (GFile) file = g_file_new_for_commandline_arg (path);
  g_autoptr (GFileOutputStream) out
      = g_file_replace (file, NULL, FALSE, G_FILE_CREATE_NONE, NULL, error);
  g_autoptr (GString) header = npy_header (rows, cols);

  return out != NULL
         && g_output_stream_write_all (G_OUTPUT_STREAM (out), header->str, header->len, NULL, NULL,
                                       error)
         && g_output_stream_write_all (G_OUTPUT_STREAM (out), data, rows * cols * sizeof *data,
                                       NULL, NULL, error)
         && g_output_stream_close (G_OUTPUT_STREAM (out), NULL, error);
}
