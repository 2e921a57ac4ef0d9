/* cudaGL.h - the one type of CUDA's OpenGL part that GStreamer's CUDA headers name; why, cuda.h
 * says.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "cuda.h"

typedef int CUGLDeviceList;
