/* npy.c - NumPy's file format, as much of it as the engine writes: float32, C order, two
 * dimensions.  Strict, because the writer is what is under test.
 * SPDX-License-Identifier: Apache-2.0 */
#include "npy.h"

#include <gio/gio.h>
#include <string.h>

/* The text after @key's colon in the header, which is a Python dictionary. */
static const char *
value_of (const char *header, const char *key)
{
  const char *at = strstr (header, key);
  if (!at)
    return NULL;
  at += strlen (key);
  return at + strspn (at, " :");
}

static gboolean
parse_header (const char *header, NpyMatrix *matrix)
{
  const char *descr = value_of (header, "'descr'");
  const char *order = value_of (header, "'fortran_order'");
  const char *shape = value_of (header, "'shape'");
  char *end = NULL;

  if (!descr || !g_str_has_prefix (descr, "'<f4'") || !order || !g_str_has_prefix (order, "False")
      || !shape || *shape != '(')
    return FALSE;
  matrix->rows = g_ascii_strtoull (shape + 1, &end, 10);
  if (end == shape + 1 || *end != ',')
    return FALSE;
  const char *second = end + 1;
  matrix->cols = g_ascii_strtoull (second, &end, 10);
  return end != second && *end == ')';
}

static gboolean
parse (const guint8 *bytes, gsize size, NpyMatrix *matrix)
{
  gsize count, prefix = 10;

  if (size < prefix || memcmp (bytes, "\x93NUMPY\x01\x00", 8) != 0)
    return FALSE;
  gsize length = bytes[8] | (gsize) bytes[9] << 8;
  /* NumPy aligns the data to 64 bytes, so that it can be mapped. */
  if (length > size - prefix || (prefix + length) % 64 != 0)
    return FALSE;
  g_autofree char *header = g_strndup ((const char *) bytes + prefix, length);
  if (!parse_header (header, matrix) || !g_size_checked_mul (&count, matrix->rows, matrix->cols)
      || count > G_MAXSIZE / sizeof (float) || size - prefix - length != count * sizeof (float))
    return FALSE;
  matrix->data = g_memdup2 (bytes + prefix + length, count * sizeof (float));
  return TRUE;
}

gboolean
npy_read (const char *path, NpyMatrix *matrix, GError **error)
{
  g_autofree char *bytes = NULL;
  gsize size;

  memset (matrix, 0, sizeof *matrix);
  if (!g_file_get_contents (path, &bytes, &size, error))
    return FALSE;
  if (parse ((const guint8 *) bytes, size, matrix))
    return TRUE;
  g_set_error (error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
               "%s: not a float32 matrix in NumPy's format 1.0", path);
  return FALSE;
}
