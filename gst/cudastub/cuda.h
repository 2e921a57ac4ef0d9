/* cuda.h - the names of CUDA's types that GStreamer's CUDA headers mention, for builds without
 * NVIDIA's: cudaframes.c passes pointers through and looks into nothing.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#define CUDAAPI

typedef enum { CUDA_SUCCESS = 0 } CUresult;
typedef int CUdevice;
typedef int CUdevice_attribute;
typedef int CUgraphicsRegisterFlags;
typedef int CUgraphicsMapResourceFlags;
typedef unsigned long long CUdeviceptr;
typedef unsigned long long CUtexObject;
typedef struct CUctx_st *CUcontext;
typedef struct CUstream_st *CUstream;
typedef struct CUmod_st *CUmodule;
typedef struct CUfunc_st *CUfunction;
typedef struct CUarray_st *CUarray;
typedef struct CUgraphicsResource_st *CUgraphicsResource;
typedef struct CUDA_MEMCPY2D_st CUDA_MEMCPY2D;
typedef struct CUDA_RESOURCE_DESC_st CUDA_RESOURCE_DESC;
typedef struct CUDA_TEXTURE_DESC_st CUDA_TEXTURE_DESC;
typedef struct CUDA_RESOURCE_VIEW_DESC_st CUDA_RESOURCE_VIEW_DESC;
