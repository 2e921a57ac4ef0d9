/* product.h - the ways a matrix product can take, of which linear.c picks one.
 *
 * Each has one order of summation for every row, whatever the number of rows.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* blas.c: by cuBLASLt.  *@taken becomes 0 where no algorithm of its keeps a row's bits for every
 * number of rows; that is so for a shape and types once and for all. */
int valley_cuda_blas_product (ValleyCudaBlas *blas, const ValleyCudaProduct *product,
                              struct CUstream_st *stream, int *taken);
/* product_plain.cu: any types, any alignment. */
int valley_cuda_plain_product (const ValleyCudaProduct *product, struct CUstream_st *stream);
/* product_few.cu: reads each weight once for several rows, of up to VALLEY_CUDA_MAX_LINEARS products
 * of one x.  x and each w[N,K] of one type, each y of that or all of f32; x and w begin at multiples
 * of 16 bytes, and so do their rows. */
int valley_cuda_few_products (const ValleyCudaProduct *products, int n, struct CUstream_st *stream);

/* epilogue.cu: y = act (y + bias) */
int valley_cuda_finish (const ValleyCudaMatrix *y, const ValleyCudaMatrix *bias,
                        ValleyCudaActivation act, struct CUstream_st *stream);

/* product_check.cu: fills x, or the weights, whose sums go along the columns or @down the rows;
 * adds to *@different, in device memory, how many elements of @a and @b (of one type and shape)
 * have other bits. */
int valley_cuda_fill_factor (const ValleyCudaMatrix *x, int down, int is_weight,
                             struct CUstream_st *stream);
int valley_cuda_count_different (const ValleyCudaMatrix *a, const ValleyCudaMatrix *b,
                                 uint32_t *different, struct CUstream_st *stream);

#ifdef __cplusplus
}
#endif
