/* emu_driver.h - the driver's types and calls that context.cpp and driver.cpp stand in for.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "cuda_runtime.h"

typedef enum {
  CUDA_SUCCESS = 0,
  CUDA_ERROR_INVALID_VALUE = 1,
  CUDA_ERROR_INVALID_DEVICE = 101,
  CUDA_ERROR_INVALID_CONTEXT = 201,
  CUDA_ERROR_NOT_SUPPORTED = 801
} CUresult;

typedef enum { CU_MEMORYTYPE_HOST = 1, CU_MEMORYTYPE_DEVICE = 2 } CUmemorytype;

typedef int CUdevice;
typedef unsigned long long CUdeviceptr;
typedef struct CUctx_st *CUcontext;
typedef struct CUstream_st *CUstream;

typedef struct {
  size_t srcXInBytes, srcY;
  CUmemorytype srcMemoryType;
  const void *srcHost;
  CUdeviceptr srcDevice;
  void *srcArray;
  size_t srcPitch;
  size_t dstXInBytes, dstY;
  CUmemorytype dstMemoryType;
  void *dstHost;
  CUdeviceptr dstDevice;
  void *dstArray;
  size_t dstPitch;
  size_t WidthInBytes, Height;
} CUDA_MEMCPY2D;

extern "C" {
CUresult cuInit (unsigned flags);
CUresult cuDriverGetVersion (int *version);
CUresult cuGetErrorName (CUresult error, const char **name);
CUresult cuGetErrorString (CUresult error, const char **words);
CUresult cuDeviceGetCount (int *n);
CUresult cuDeviceGet (CUdevice *device, int ordinal);
CUresult cuDeviceGetName (char *name, int length, CUdevice device);
CUresult cuDeviceGetAttribute (int *value, int attribute, CUdevice device);
CUresult cuDeviceCanAccessPeer (int *can, CUdevice device, CUdevice peer);
CUresult cuCtxCreate_v2 (CUcontext *context, unsigned flags, CUdevice device);
CUresult cuCtxDestroy_v2 (CUcontext context);
CUresult cuCtxPushCurrent_v2 (CUcontext context);
CUresult cuCtxPopCurrent_v2 (CUcontext *context);
CUresult cuCtxGetCurrent (CUcontext *context);
CUresult cuCtxGetDevice (CUdevice *device);
CUresult cuMemAlloc_v2 (CUdeviceptr *pointer, size_t bytes);
CUresult cuMemAllocPitch_v2 (CUdeviceptr *pointer, size_t *pitch, size_t width_bytes, size_t height,
                             unsigned element_bytes);
CUresult cuMemFree_v2 (CUdeviceptr pointer);
CUresult cuMemAllocHost_v2 (void **pointer, size_t bytes);
CUresult cuMemFreeHost (void *pointer);
CUresult cuMemcpy2D_v2 (const CUDA_MEMCPY2D *copy);
CUresult cuMemcpy2DAsync_v2 (const CUDA_MEMCPY2D *copy, CUstream stream);
CUresult cuStreamCreate (CUstream *stream, unsigned flags);
CUresult cuStreamDestroy (CUstream stream);
CUresult cuStreamSynchronize (CUstream stream);
}
