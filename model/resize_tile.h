/* resize_tile.h - rows of a picture into tiles, step by step.  Included once by each vector set,
 * behind its tile_step, with VALLEY_TILE and VALLEY_TILE_INLINE as what its functions are compiled
 * for. SPDX-License-Identifier: Apache-2.0 */

VALLEY_TILE_INLINE void
tile_channels (const guint8 *src, gsize stride, guint n_rows, guint width, guint channels,
               guint8 *const planes[4])
{
  const guint quads = valley_resize_quads_per_step (channels);
  gsize row_bytes = (gsize) width * channels, at = 0, quad = 0;
  guint8 edge[VALLEY_RESIZE_ROWS * VALLEY_RESIZE_STEP];

  for (; n_rows == VALLEY_RESIZE_ROWS && at + VALLEY_RESIZE_STEP <= row_bytes;
       at += 4 * quads * channels, quad += quads) {
    valley_resize_prefetch (src + VALLEY_RESIZE_ROWS * stride, stride, quad * channels,
                            quads * channels);
    tile_step (src + at, stride, channels, planes, quad);
  }
  for (; at < row_bytes; at += 4 * quads * channels, quad += quads) {
    valley_resize_copy_edge (src + at, stride, n_rows, row_bytes - at, edge);
    tile_step (edge, VALLEY_RESIZE_STEP, channels, planes, quad);
  }
}

VALLEY_TILE static void
tile (const guint8 *src, gsize stride, guint n_rows, guint width, guint channels,
      guint8 *const planes[4])
{
  switch (channels) {
  case 1:
    tile_channels (src, stride, n_rows, width, 1, planes);
    break;
  case 2:
    tile_channels (src, stride, n_rows, width, 2, planes);
    break;
  case 3:
    tile_channels (src, stride, n_rows, width, 3, planes);
    break;
  default:
    tile_channels (src, stride, n_rows, width, 4, planes);
  }
}
