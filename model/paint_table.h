/* paint_table.h - the coefficients of the CPU's two kinds of resize as a device's kernels read
 * them. SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "video_taps.h"

typedef struct {
  gint32 *rows;    /* by output: the first input, how many, their coefficients, zeros */
  gsize n, stride; /* outputs, and numbers from one to the next */
  guint bits;      /* fraction bits of a coefficient */
} ValleyPaintTable;

/* As video.c weighs samples, and as resize.c weighs @in bytes into @out.  FALSE when memory is
 * short; the table is to be cleared in any case. */
gboolean valley_paint_table_init_video (ValleyPaintTable *table, const ValleyTapsKey *key);
gboolean valley_paint_table_init_rgb (ValleyPaintTable *table, guint in, guint out);
void valley_paint_table_clear (ValleyPaintTable *table);
