/* kernels_avx2.c - the kernels for AVX2 with FMA and F16C; built with those enabled, so
 * nothing here may run before kernels.c has asked the machine.
 * SPDX-License-Identifier: Apache-2.0 */
#include "simd_avx2.h"

#include "kernels_simd.h"

const ValleyKernels valley_kernels_avx2 = { .name = "avx2", SIMD_KERNELS };
