/* driver.cpp - libcuda.so.1 over the stand-in: the part of the driver's interface that GStreamer's
 * CUDA library uses, so that its real elements (cudaupload, cudadownload) make frames in the
 * stand-in's device memory, which the engine's wing reads.
 *
 * Whatever would need a GPU's compiler, textures or OpenGL is there by name and fails.
 * SPDX-License-Identifier: Apache-2.0 */
#include "emu_driver.h"

#include <string.h>

#define PITCH ((size_t) 512)

/* ---- errors and devices ---- */

static CUresult
result_of (cudaError_t error)
{
  return (CUresult) error; /* the two share their numbers */
}

CUresult
cuInit (unsigned flags)
{
  return CUDA_SUCCESS;
}

CUresult
cuDriverGetVersion (int *version)
{
  *version = 13000;
  return CUDA_SUCCESS;
}

CUresult
cuGetErrorName (CUresult error, const char **name)
{
  *name = cudaGetErrorName ((cudaError_t) error);
  return CUDA_SUCCESS;
}

CUresult
cuGetErrorString (CUresult error, const char **words)
{
  return cuGetErrorName (error, words);
}

CUresult
cuDeviceGetCount (int *n)
{
  return result_of (cudaGetDeviceCount (n));
}

CUresult
cuDeviceGetName (char *name, int length, CUdevice device)
{
  strncpy (name, "a stand-in for a GPU", (size_t) length);
  name[length - 1] = '\0';
  return CUDA_SUCCESS;
}

CUresult
cuDeviceCanAccessPeer (int *can, CUdevice device, CUdevice peer)
{
  *can = device == peer;
  return CUDA_SUCCESS;
}

/* ---- memory ---- */

CUresult
cuMemAlloc_v2 (CUdeviceptr *pointer, size_t bytes)
{
  void *memory = NULL;
  CUresult result = result_of (cudaMalloc (&memory, bytes));

  *pointer = (CUdeviceptr) memory;
  return result;
}

CUresult
cuMemAllocPitch_v2 (CUdeviceptr *pointer, size_t *pitch, size_t width_bytes, size_t height,
                    unsigned element_bytes)
{
  *pitch = (width_bytes + PITCH - 1) / PITCH * PITCH;
  return cuMemAlloc_v2 (pointer, *pitch * height);
}

CUresult
cuMemFree_v2 (CUdeviceptr pointer)
{
  return result_of (cudaFree ((void *) pointer));
}

CUresult
cuMemAllocHost_v2 (void **pointer, size_t bytes)
{
  return result_of (cudaMallocHost (pointer, bytes));
}

CUresult
cuMemFreeHost (void *pointer)
{
  return result_of (cudaFreeHost (pointer));
}

/* One side of a copy: its first byte. */
static char *
side_start (CUmemorytype type, const void *host, CUdeviceptr device, size_t x, size_t y,
            size_t pitch)
{
  return (type == CU_MEMORYTYPE_HOST ? (char *) host : (char *) device) + y * pitch + x;
}

CUresult
cuMemcpy2DAsync_v2 (const CUDA_MEMCPY2D *copy, CUstream stream)
{
  bool from_host = copy->srcMemoryType == CU_MEMORYTYPE_HOST;
  bool to_host = copy->dstMemoryType == CU_MEMORYTYPE_HOST;
  cudaMemcpyKind kind = from_host ? cudaMemcpyHostToDevice
                        : to_host ? cudaMemcpyDeviceToHost
                                  : cudaMemcpyDeviceToDevice;

  if (from_host && to_host)
    return CUDA_ERROR_INVALID_VALUE;
  return result_of (
      cudaMemcpy2DAsync (side_start (copy->dstMemoryType, copy->dstHost, copy->dstDevice,
                                     copy->dstXInBytes, copy->dstY, copy->dstPitch),
                         copy->dstPitch,
                         side_start (copy->srcMemoryType, copy->srcHost, copy->srcDevice,
                                     copy->srcXInBytes, copy->srcY, copy->srcPitch),
                         copy->srcPitch, copy->WidthInBytes, copy->Height, kind, stream));
}

/* On the default stream, which the stand-in lacks. */
CUresult
cuMemcpy2D_v2 (const CUDA_MEMCPY2D *copy)
{
  CUstream stream;
  CUresult result = cuStreamCreate (&stream, 0);

  if (result != CUDA_SUCCESS)
    return result;
  result = cuMemcpy2DAsync_v2 (copy, stream);
  if (result == CUDA_SUCCESS)
    result = cuStreamSynchronize (stream);
  cuStreamDestroy (stream);
  return result;
}

/* ---- streams ---- */

CUresult
cuStreamCreate (CUstream *stream, unsigned flags)
{
  return result_of (cudaStreamCreateWithFlags (stream, cudaStreamNonBlocking));
}

CUresult
cuStreamDestroy (CUstream stream)
{
  return result_of (cudaStreamDestroy (stream));
}

CUresult
cuStreamSynchronize (CUstream stream)
{
  return result_of (cudaStreamSynchronize (stream));
}

/* ---- what a stand-in cannot do ---- */

#define UNSUPPORTED(name)                                                                          \
  CUresult name (void) { return CUDA_ERROR_NOT_SUPPORTED; }

extern "C" {
UNSUPPORTED (cuCtxEnablePeerAccess)
UNSUPPORTED (cuCtxDisablePeerAccess)
UNSUPPORTED (cuModuleLoadData)
UNSUPPORTED (cuModuleUnload)
UNSUPPORTED (cuModuleGetFunction)
UNSUPPORTED (cuTexObjectCreate)
UNSUPPORTED (cuTexObjectDestroy)
UNSUPPORTED (cuLaunchKernel)
UNSUPPORTED (cuGraphicsMapResources)
UNSUPPORTED (cuGraphicsUnmapResources)
UNSUPPORTED (cuGraphicsUnregisterResource)
UNSUPPORTED (cuGraphicsResourceSetMapFlags_v2)
UNSUPPORTED (cuGraphicsSubResourceGetMappedArray)
UNSUPPORTED (cuGraphicsResourceGetMappedPointer_v2)
UNSUPPORTED (cuGraphicsGLRegisterImage)
UNSUPPORTED (cuGraphicsGLRegisterBuffer)
UNSUPPORTED (cuGLGetDevices_v2)
}
