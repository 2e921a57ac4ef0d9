/* resize_simd.h - what the vector sets' regrouping of rows into tiles has in common.
 *
 * Sixteen bytes of a row are a step: they become four groups of four samples of one channel.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "resize_kernels.h"

#include <string.h>

#define VALLEY_RESIZE_STEP 16

/* By channels less one: the bytes of each group.  Of 16 bytes of three channels 12 are used. */
static const gint8 valley_resize_groups[4][16] = {
  { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 },
  { 0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15 },
  { 0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, -1, -1, -1, -1 },
  { 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15 },
};

/* How many of the groups are one channel's, one after the other. */
static inline guint
valley_resize_quads_per_step (guint channels)
{
  return channels < 3 ? 4 / channels : 1;
}

/* Asks for @n cache lines of the sixteen rows at @next, from number @line on, one of each row in
 * turn.  Sixteen short rows are too much for what processors foresee themselves.  (Behind the
 * picture's last rows nothing is read: a prefetch never faults.) */
static inline void
valley_resize_prefetch (const guint8 *next, gsize stride, gsize line, guint n)
{
  for (gsize i = line; i < line + n; i++)
    __builtin_prefetch (next + i % VALLEY_RESIZE_ROWS * stride + i / VALLEY_RESIZE_ROWS * 64, 0, 2);
}

/* A step's bytes of sixteen rows where not all are there: @left bytes of @n_rows. */
static inline void
valley_resize_copy_edge (const guint8 *src, gsize stride, guint n_rows, gsize left,
                         guint8 edge[VALLEY_RESIZE_ROWS * VALLEY_RESIZE_STEP])
{
  memset (edge, 0, VALLEY_RESIZE_ROWS * VALLEY_RESIZE_STEP);
  for (guint row = 0; row < VALLEY_RESIZE_ROWS; row++)
    memcpy (edge + VALLEY_RESIZE_STEP * row, src + stride * MIN (row, n_rows - 1),
            MIN (left, VALLEY_RESIZE_STEP));
}
