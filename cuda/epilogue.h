/* epilogue.h - what happens to a sum before it is stored: bias and activation, in f32.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "number.h"
#include "product.h"

/* As kernels take it. */
struct ValleyEpilogue {
  const void *bias; /* NULL: none */
  ValleyCudaType bias_type;
  ValleyCudaActivation act;
};

static inline ValleyEpilogue
valley_epilogue (const ValleyCudaMatrix *bias, ValleyCudaActivation act)
{
  if (bias == NULL)
    return { NULL, VALLEY_CUDA_F32, act };
  return { bias->data, bias->type, act };
}

static __device__ __forceinline__ float
valley_activate (ValleyCudaActivation act, float x)
{
  switch (act) {
  case VALLEY_CUDA_ACT_GELU_TANH:
    return 0.5f * x * (1 + tanhf (0.7978845608028654f * (x + 0.044715f * x * x * x)));
  case VALLEY_CUDA_ACT_GELU_ERF:
    return 0.5f * x * (1 + erff (x * 0.7071067811865476f));
  case VALLEY_CUDA_ACT_QUICK_GELU:
    return x / (1 + expf (-1.702f * x));
  case VALLEY_CUDA_ACT_SILU:
    return x / (1 + expf (-x));
  case VALLEY_CUDA_ACT_NONE:
    break;
  }
  return x;
}

static __device__ __forceinline__ float
valley_finish_sum (ValleyEpilogue e, size_t column, float x)
{
  if (e.bias != NULL) {
    if (e.bias_type == VALLEY_CUDA_F32)
      x += ((const float *) e.bias)[column];
    else if (e.bias_type == VALLEY_CUDA_BF16)
      x += valley_to_f32 (((const ValleyBf16 *) e.bias)[column]);
    else
      x += valley_to_f32 (((const ValleyF16 *) e.bias)[column]);
  }
  return valley_activate (e.act, x);
}
