/* emu_mma.h - cuda/mma.h's instructions for the stand-in: one step of a whole warp each, as twins
 * that shuffle would take dozens.  Included by cuda/mma.h.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "emu_device.h"

static inline float
valley_exp2 (float x)
{
  return valley_exp2_twin (x);
}

template <typename T>
static inline unsigned
valley_pack (float low, float high)
{
  return valley_pack_twin<T> (low, high);
}

struct EmuMma {
  float *c;
  const unsigned *a, *b;
};

template <typename T>
static inline void
emu_unpack (float to[2], unsigned pair)
{
  to[0] = valley_low_half<T> (pair);
  to[1] = valley_high_half<T> (pair);
}

/* The twin's order of summation: k after k, on top of what was there. */
template <typename T>
static EMU_UNWATCHED void
emu_mma (void *const own[32])
{
  float a[16][16], b[8][16]; /* b[n][k] */

  emu_watch_tensor_flops (2 * 16 * 8 * 16);
  if (emu_counts_only ())
    return;
  if (emu_counts_only ())
    return;
  for (unsigned lane = 0; lane < 32; lane++) {
    const EmuMma *m = (const EmuMma *) own[lane];
    unsigned g = lane / 4, t = lane % 4;

    for (unsigned i = 0; i < 4; i++)
      emu_unpack<T> (&a[g + i % 2 * 8][2 * t + i / 2 * 8], m->a[i]);
    for (unsigned i = 0; i < 2; i++)
      emu_unpack<T> (&b[g][2 * t + i * 8], m->b[i]);
  }
  for (unsigned lane = 0; lane < 32; lane++)
    for (unsigned i = 0; i < 4; i++) {
      const float *row = a[lane / 4 + i / 2 * 8], *column = b[lane % 4 * 2 + i % 2];
      float *c = &((const EmuMma *) own[lane])->c[i];

      for (unsigned k = 0; k < 16; k++)
        *c += row[k] * column[k];
    }
}

template <typename T>
static inline void
valley_mma (float c[4], const unsigned a[4], const unsigned b[2], EMU_LINE)
{
  EmuMma own = { c, a, b };

  emu_warp_together (emu_mma<T>, &own, file, line);
}

struct EmuMatrices {
  unsigned *out;
  const uint16_t *row;
};

template <bool TRANSPOSED>
static EMU_UNWATCHED void
emu_load_matrices (void *const own[32])
{
  for (unsigned lane = 0; lane < 32; lane++)
    for (unsigned i = 0; i < 4; i++) {
      unsigned g = lane / 4, t = lane % 4, r = TRANSPOSED ? 2 * t : g, c = TRANSPOSED ? g : 2 * t;
      const uint16_t *low = ((const EmuMatrices *) own[8 * i + r])->row + c;
      const uint16_t *high
          = TRANSPOSED ? ((const EmuMatrices *) own[8 * i + r + 1])->row + c : low + 1;

      ((const EmuMatrices *) own[lane])->out[i] = *low | (unsigned) *high << 16;
    }
}

template <bool TRANSPOSED, typename T>
static inline void
valley_load_matrices (unsigned out[4], ValleyShared<T> tile, unsigned offset, EMU_LINE)
{
  EmuMatrices own = { out, &tile[offset].bits };

  (void) tile[offset + 7];                   /* within bounds */
  valley_load_vector<uint4> (&tile[offset]); /* aligned, and seen by who watches */
  emu_warp_together (emu_load_matrices<TRANSPOSED>, &own, file, line);
}

template <typename T>
static inline void
valley_copy_async (ValleyShared<T> tile, unsigned offset, const T *from, bool is_there)
{
  (void) tile[offset + 7];
  emu_copy_async (&tile[offset], is_there ? from : NULL, 16);
}

static inline void
valley_copy_commit (void)
{
  emu_copy_commit ();
}

template <unsigned n_left>
static inline void
valley_copy_wait (void)
{
  emu_copy_wait (n_left);
}
