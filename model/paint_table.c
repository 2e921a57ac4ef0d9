/* paint_table.c - see paint_table.h.
 * SPDX-License-Identifier: Apache-2.0 */
#include "paint_table.h"

#include "alloc.h"
#include "resize_table.h"

enum { HEAD = 2 }; /* numbers before an output's coefficients */

static gboolean
table_alloc (ValleyPaintTable *table, gsize n, gsize most_inputs, guint bits)
{
  *table = (ValleyPaintTable){ .n = n, .stride = HEAD + most_inputs, .bits = bits };
  table->rows = valley_alloc0 (n, table->stride * sizeof *table->rows);
  return table->rows != NULL;
}

/* The CPU rounds the number of inputs up, with coefficients of 0 that may lie past the last. */
static gint32 *
start_row (ValleyPaintTable *table, gsize i, guint32 first, guint32 n, guint in)
{
  gint32 *row = table->rows + i * table->stride;

  row[0] = (gint32) first;
  row[1] = (gint32) MIN (n, in - first);
  return row + HEAD;
}

gboolean
valley_paint_table_init_video (ValleyPaintTable *table, const ValleyTapsKey *key)
{
  ValleyTaps taps;
  gboolean ready = valley_taps_init (&taps, key);

  *table = (ValleyPaintTable){ 0 };
  if (ready)
    ready = table_alloc (table, key->out, 2 * taps.stride, taps.bits);
  for (gsize i = 0; ready && i < table->n; i++) {
    gint32 *k = start_row (table, i, taps.first[i], 2 * taps.n_pairs[i], taps.in);

    for (guint j = 0; j < 2 * taps.n_pairs[i]; j++)
      k[j] = (gint16) (taps.pairs[i * taps.stride + j / 2] >> (j % 2 * 16));
  }
  valley_taps_clear (&taps);
  return ready;
}

gboolean
valley_paint_table_init_rgb (ValleyPaintTable *table, guint in, guint out)
{
  /* The plain C kernels' form is plain numbers. */
  const ValleyResizeTable *t = valley_resize_table_get (&valley_resize_kernels_c, in, out, 1);

  *table = (ValleyPaintTable){ 0 };
  if (t != NULL && table_alloc (table, out, t->stride, VALLEY_RESIZE_BITS))
    for (gsize i = 0; i < table->n; i++) {
      gint32 *k = start_row (table, i, t->first[i], 4 * t->n_quads[i], in);

      for (guint j = 0; j < 4 * t->n_quads[i]; j++)
        k[j] = (gint32) t->packed[i * t->stride + j];
    }
  valley_resize_table_unref (t);
  return table->rows != NULL;
}

void
valley_paint_table_clear (ValleyPaintTable *table)
{
  g_free (table->rows);
  *table = (ValleyPaintTable){ 0 };
}
