/* cuda.h - all of CUDA's types that GStreamer's CUDA headers name, and nothing else.
 *
 * Those headers include <cuda.h> and <cudaGL.h>, which distributions do not ship with them.  With
 * this folder searched first, frames in CUDA memory are built in everywhere, and the same way where
 * CUDA is installed.  That is enough: cudaframes.c calls GStreamer's functions alone, and passes
 * handles on as pointers.  Types are therefore only declared; numbers have their real size, as they
 * stand in GStreamer's structures.  The build checks that GStreamer's headers compile with these
 * two (meson.build), and leaves the feature out if a later version names more.
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
