/* on-device.h - for tests of kernels, which call ops.h themselves: a stream, memory of the device,
 * numbers of its types.  With VALLEY_CUDA_EMU it is the stand-in's, else a GPU's.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <cuda_runtime.h>

#include "kernels.h"
#include "ops.h"

#ifdef VALLEY_CUDA_EMU
#include "emu.h"
#endif

#include "../compare.h"

G_STATIC_ASSERT ((int) VALLEY_CUDA_F32 == (int) VALLEY_F32
                 && (int) VALLEY_CUDA_BF16 == (int) VALLEY_BF16
                 && (int) VALLEY_CUDA_F16 == (int) VALLEY_F16);

#define CHECK(call)                                                                                \
  do {                                                                                             \
    int error_ = (call);                                                                           \
    if (error_ != cudaSuccess)                                                                     \
      g_error ("%s: error %d: %s", #call, error_, fault ());                                       \
  } while (0)

static G_GNUC_UNUSED const char *
fault (void)
{
#ifdef VALLEY_CUDA_EMU
  const char *words = emu_take_fault ();

  return words != NULL ? words : "no fault";
#else
  return "see compute-sanitizer";
#endif
}

static cudaStream_t stream;

/* ---- types ---- */

static G_GNUC_UNUSED void
to_type (gpointer out, ValleyDType type, const float *values, gsize n)
{
  if (type == VALLEY_F32)
    memcpy (out, values, n * sizeof *values);
  else if (type == VALLEY_BF16)
    valley_kernels_c.bf16_from_f32 (out, values, n);
  else
    valley_kernels_c.f16_from_f32 (out, values, n);
}

static G_GNUC_UNUSED void
from_type (float *out, ValleyDType type, gconstpointer values, gsize n)
{
  if (type == VALLEY_F32)
    memcpy (out, values, n * sizeof *out);
  else if (type == VALLEY_BF16)
    valley_kernels_c.f32_from_bf16 (out, values, n);
  else
    valley_kernels_c.f32_from_f16 (out, values, n);
}

/* Random numbers that the type has. */
static G_GNUC_UNUSED float *
rounded_floats (ValleyDType type, gsize n, double scale)
{
  float *values = random_floats (n, scale);
  g_autofree gpointer elements = g_malloc (n * sizeof *values);

  to_type (elements, type, values, n);
  from_type (values, type, elements, n);
  return values;
}

/* ---- memory ---- */

/* What @host has, in device memory; NULL for nothing. */
static G_GNUC_UNUSED gpointer
to_device (gconstpointer host, gsize bytes)
{
  void *memory = NULL;

  if (host == NULL || bytes == 0)
    return NULL;
  CHECK (cudaMalloc (&memory, bytes));
  CHECK (cudaMemcpyAsync (memory, host, bytes, cudaMemcpyHostToDevice, stream));
  CHECK (cudaStreamSynchronize (stream)); /* @host may go */
  return memory;
}

/* And the other way; free with g_free. */
static G_GNUC_UNUSED gpointer
from_device (gconstpointer memory, gsize bytes)
{
  gpointer host = g_malloc (bytes);

  CHECK (cudaMemcpyAsync (host, memory, bytes, cudaMemcpyDeviceToHost, stream));
  CHECK (cudaStreamSynchronize (stream));
  return host;
}
