/* number.h - the element types in device memory, and their way to f32 and back (to nearest
 * even; a NaN stays a NaN).
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "launch.h"

#include <stdint.h>

struct ValleyBf16 {
  uint16_t bits;
};

struct ValleyF16 {
  uint16_t bits;
};

static __device__ __forceinline__ float
valley_to_f32 (float x)
{
  return x;
}

static __device__ __forceinline__ float
valley_to_f32 (ValleyBf16 x)
{
  return __uint_as_float ((unsigned) x.bits << 16);
}

static __device__ __forceinline__ void
valley_from_f32 (float *out, float x)
{
  *out = x;
}

static __device__ __forceinline__ void
valley_from_f32 (ValleyBf16 *out, float x)
{
  unsigned bits = __float_as_uint (x);

  if (x != x)
    bits |= 0x400000; /* quiet, or rounding might make it infinite */
  else
    bits += 0x7fff + ((bits >> 16) & 1);
  out->bits = (uint16_t) (bits >> 16);
}

#ifdef VALLEY_CUDA_EMU
/* What the GPU's two conversion instructions do, written out. */
static inline float
valley_to_f32 (ValleyF16 x)
{
  unsigned sign = (unsigned) (x.bits & 0x8000) << 16;
  unsigned exponent = x.bits >> 10 & 31, fraction = x.bits & 0x3ff;

  if (exponent == 0)
    return __uint_as_float (sign | __float_as_uint ((float) fraction / 16777216.0f));
  if (exponent == 31)
    return __uint_as_float (sign | 0x7f800000 | fraction << 13 | (fraction != 0 ? 0x400000 : 0));
  return __uint_as_float (sign | (exponent + 112) << 23 | fraction << 13);
}

static inline void
valley_from_f32 (ValleyF16 *out, float x)
{
  unsigned bits = __float_as_uint (x), magnitude = bits & 0x7fffffff, half;

  if (magnitude > 0x7f800000) {
    out->bits = 0x7fff; /* one NaN for all */
    return;
  }
  if (magnitude >= 0x477ff000) /* 65520 and above round to infinity */
    half = 0x7c00;
  else if (magnitude < 0x38800000) /* below 2^-14: count in units of 2^-24 */
    half = (unsigned) rintf (__uint_as_float (magnitude) * 16777216.0f);
  else
    half = (magnitude + 0xfff + (magnitude >> 13 & 1) - 0x38000000) >> 13;
  out->bits = (uint16_t) (half | (bits >> 16 & 0x8000));
}
#else
static __device__ __forceinline__ float
valley_to_f32 (ValleyF16 x)
{
  return __half2float (__ushort_as_half (x.bits));
}

static __device__ __forceinline__ void
valley_from_f32 (ValleyF16 *out, float x)
{
  out->bits = __half_as_ushort (__float2half_rn (x));
}
#endif

/* ---- four elements at a time ---- */

struct ValleyQuad {
  float at[4];
};

static __device__ __forceinline__ bool
valley_is_whole_quad (const void *p, size_t bytes, size_t i, size_t n)
{
  return i + 4 <= n && (uintptr_t) p % bytes == 0;
}

/* Elements i ... i + 3 of a row of @n; zeros beyond its end.  Whether they come in one access
 * never changes what is done with them, so a row's bits do not depend on where it lies. */
static __device__ __forceinline__ ValleyQuad
valley_load_quad (const float *row, size_t i, size_t n)
{
  ValleyQuad quad = { { 0, 0, 0, 0 } };

  if (valley_is_whole_quad (row + i, 16, i, n)) {
    float4 v = valley_load_vector<float4> (row + i);

    quad = { { v.x, v.y, v.z, v.w } };
  } else {
    for (size_t j = 0; j < 4; j++)
      if (i + j < n)
        quad.at[j] = row[i + j];
  }
  return quad;
}

/* Both 16-bit types */
template <typename T>
static __device__ __forceinline__ ValleyQuad
valley_load_quad (const T *row, size_t i, size_t n)
{
  ValleyQuad quad = { { 0, 0, 0, 0 } };

  if (valley_is_whole_quad (row + i, 8, i, n)) {
    uint2 v = valley_load_vector<uint2> (row + i);
    T element[4] = {
      { (uint16_t) v.x }, { (uint16_t) (v.x >> 16) }, { (uint16_t) v.y }, { (uint16_t) (v.y >> 16) }
    };

    for (int j = 0; j < 4; j++)
      quad.at[j] = valley_to_f32 (element[j]);
  } else {
    for (size_t j = 0; j < 4; j++)
      if (i + j < n)
        quad.at[j] = valley_to_f32 (row[i + j]);
  }
  return quad;
}

static __device__ __forceinline__ void
valley_store_quad (float *row, size_t i, size_t n, ValleyQuad quad)
{
  if (valley_is_whole_quad (row + i, 16, i, n)) {
    valley_store_vector (row + i, make_float4 (quad.at[0], quad.at[1], quad.at[2], quad.at[3]));
  } else {
    for (size_t j = 0; j < 4; j++)
      if (i + j < n)
        row[i + j] = quad.at[j];
  }
}

template <typename T>
static __device__ __forceinline__ void
valley_store_quad (T *row, size_t i, size_t n, ValleyQuad quad)
{
  T element[4];

  for (int j = 0; j < 4; j++)
    valley_from_f32 (&element[j], quad.at[j]);
  if (valley_is_whole_quad (row + i, 8, i, n)) {
    valley_store_vector (row + i, make_uint2 (element[0].bits | (unsigned) element[1].bits << 16,
                                              element[2].bits | (unsigned) element[3].bits << 16));
  } else {
    for (size_t j = 0; j < 4; j++)
      if (i + j < n)
        row[i + j] = element[j];
  }
}
