/* cudaGL.h - see cuda.h.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "cuda.h"

typedef int CUGLDeviceList;
