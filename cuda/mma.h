/* mma.h - tensor cores, and what feeds them: matrix products of a warp, fragments out of shared
 * memory, copies into it that go on in the background.
 *
 * Each of the GPU's own instructions has a twin in plain CUDA, valley_..._twin, that says what it
 * does; tests/cuda-twins.cu compares the two where there is a GPU.  Without one, the stand-in
 * has them as one step of a whole warp, compared with the same twins.
 *
 * How a warp's lanes hold a matrix (g = lane / 4, t = lane % 4; a register has two neighbours of a
 * row, the left one in its low half):
 *   A, 16 x 16: (g, 2t) (g + 8, 2t) (g, 2t + 8) (g + 8, 2t + 8)
 *   B, 16 x 8, of a column's two neighbours: (2t, g) (2t + 8, g)
 *   C, 16 x 8, one element a register: (g, 2t) (g, 2t + 1) (g + 8, 2t) (g + 8, 2t + 1)
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "number.h"

/* ---- pairs of 16-bit numbers ---- */

template <typename T>
static __device__ __forceinline__ unsigned
valley_pack_twin (float low, float high)
{
  T a, b;

  valley_from_f32 (&a, low);
  valley_from_f32 (&b, high);
  return a.bits | (unsigned) b.bits << 16;
}

template <typename T>
static __device__ __forceinline__ float
valley_low_half (unsigned pair)
{
  return valley_to_f32 (T{ (uint16_t) pair });
}

template <typename T>
static __device__ __forceinline__ float
valley_high_half (unsigned pair)
{
  return valley_to_f32 (T{ (uint16_t) (pair >> 16) });
}

/* ---- powers of 2 ---- */

/* 0 for -infinity, 1 for 0; the instruction makes 0 of results that are no normal numbers. */
static __device__ __forceinline__ float
valley_exp2_twin (float x)
{
  return exp2f (x);
}

/* ---- the twins: every lane of the warp calls them ---- */

/* c += a b */
template <typename T>
static __device__ void
valley_mma_twin (float c[4], const unsigned a[4], const unsigned b[2])
{
  unsigned lane = threadIdx.x % VALLEY_WARP, g = lane / 4, t = lane % 4;

  for (unsigned half = 0; half < 2; half++)
    for (unsigned other = 0; other < 4; other++) {
      unsigned top = valley_shuffle (VALLEY_FULL_WARP, a[2 * half], g * 4 + other);
      unsigned bottom = valley_shuffle (VALLEY_FULL_WARP, a[2 * half + 1], g * 4 + other);
      unsigned left = valley_shuffle (VALLEY_FULL_WARP, b[half], 2 * t * 4 + other);
      unsigned right = valley_shuffle (VALLEY_FULL_WARP, b[half], (2 * t + 1) * 4 + other);

      c[0] += valley_low_half<T> (top) * valley_low_half<T> (left);
      c[0] += valley_high_half<T> (top) * valley_high_half<T> (left);
      c[1] += valley_low_half<T> (top) * valley_low_half<T> (right);
      c[1] += valley_high_half<T> (top) * valley_high_half<T> (right);
      c[2] += valley_low_half<T> (bottom) * valley_low_half<T> (left);
      c[2] += valley_high_half<T> (bottom) * valley_high_half<T> (left);
      c[3] += valley_low_half<T> (bottom) * valley_low_half<T> (right);
      c[3] += valley_high_half<T> (bottom) * valley_high_half<T> (right);
    }
}

/* Four 8 x 8 matrices: row r of matrix i begins at the offset that lane 8 i + r gives, a multiple
 * of 8 elements.  Register i has of matrix i the elements (g, 2t) and (g, 2t + 1), or transposed
 * (2t, g) and (2t + 1, g). */
template <bool TRANSPOSED, typename T>
static __device__ void
valley_load_matrices_twin (unsigned out[4], ValleyShared<T> tile, unsigned offset)
{
  unsigned lane = threadIdx.x % VALLEY_WARP, g = lane / 4, t = lane % 4;

  for (unsigned i = 0; i < 4; i++) {
    unsigned row = valley_shuffle (VALLEY_FULL_WARP, offset, 8 * i + g);
    unsigned low = valley_shuffle (VALLEY_FULL_WARP, offset, 8 * i + 2 * t);
    unsigned high = valley_shuffle (VALLEY_FULL_WARP, offset, 8 * i + 2 * t + 1);
    T a = TRANSPOSED ? tile[low + g] : tile[row + 2 * t];
    T b = TRANSPOSED ? tile[high + g] : tile[row + 2 * t + 1];

    out[i] = a.bits | (unsigned) b.bits << 16;
  }
}

/* 8 elements to tile[offset] ...; zeros where @is_there is false, and @from is not read. */
template <typename T>
static __device__ __forceinline__ void
valley_copy_async_twin (ValleyShared<T> tile, unsigned offset, const T *from, bool is_there)
{
  uint4 zeros = { 0, 0, 0, 0 };

  valley_store_vector (&tile[offset], is_there ? valley_load_vector<uint4> (from) : zeros);
}

/* ---- the instructions ---- */

#ifdef VALLEY_CUDA_EMU
#include "emu_mma.h"
#else

static __device__ __forceinline__ float
valley_exp2 (float x)
{
  float power;

  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
  return power;
}

template <typename T> static __device__ unsigned valley_pack (float low, float high);

template <>
__device__ __forceinline__ unsigned
valley_pack<ValleyBf16> (float low, float high)
{
  unsigned pair;

  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

template <>
__device__ __forceinline__ unsigned
valley_pack<ValleyF16> (float low, float high)
{
  unsigned pair;

  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

#define VALLEY_MMA_PTX(type)                                                                       \
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." type "." type ".f32 "                      \
               "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                   \
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                                    \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))

template <typename T>
static __device__ void valley_mma (float c[4], const unsigned a[4], const unsigned b[2]);

template <>
__device__ __forceinline__ void
valley_mma<ValleyBf16> (float c[4], const unsigned a[4], const unsigned b[2])
{
  VALLEY_MMA_PTX ("bf16");
}

template <>
__device__ __forceinline__ void
valley_mma<ValleyF16> (float c[4], const unsigned a[4], const unsigned b[2])
{
  VALLEY_MMA_PTX ("f16");
}

template <bool TRANSPOSED, typename T>
static __device__ __forceinline__ void
valley_load_matrices (unsigned out[4], ValleyShared<T> tile, unsigned offset)
{
  unsigned address = (unsigned) __cvta_generic_to_shared (tile + offset);

  if (TRANSPOSED)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(address)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(address)
                 : "memory");
}

template <typename T>
static __device__ __forceinline__ void
valley_copy_async (ValleyShared<T> tile, unsigned offset, const T *from, bool is_there)
{
  unsigned address = (unsigned) __cvta_generic_to_shared (tile + offset);

  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from),
               "r"(is_there ? 16 : 0)
               : "memory");
}

static __device__ __forceinline__ void
valley_copy_commit (void)
{
  asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Until all but the last @n_left groups of this thread's own copies are there; other threads'
 * are, after the next barrier. */
template <unsigned n_left>
static __device__ __forceinline__ void
valley_copy_wait (void)
{
  asm volatile("cp.async.wait_group %0;" ::"n"(n_left) : "memory");
}
#endif
