/* linear.c - which way a matrix product takes: a function of its shape, types, alignment and
 * role, never of the number of rows.
 * SPDX-License-Identifier: Apache-2.0 */
#include "product.h"

#include <cuda_runtime.h>

#define ALIGNMENT 16 /* bytes: of addresses and rows, for all ways but the plain one */

static int
is_aligned (const ValleyCudaMatrix *m)
{
  size_t element = m->type == VALLEY_CUDA_F32 ? 4 : 2;

  return (uintptr_t) m->data % ALIGNMENT == 0 && m->stride * element % ALIGNMENT == 0;
}

static int
is_usual (const ValleyCudaProduct *p)
{
  return p->x->type == p->w->type && (p->y->type == p->x->type || p->y->type == VALLEY_CUDA_F32)
         && is_aligned (p->x) && is_aligned (p->w);
}

static int
prompt_product (ValleyCudaBlas *blas, const ValleyCudaProduct *p, cudaStream_t stream)
{
  int taken = 0, error = cudaSuccess;

  if (is_usual (p) && is_aligned (p->y))
    error = valley_cuda_blas_product (blas, p, stream, &taken);
  if (error == cudaSuccess && !taken)
    error = valley_cuda_plain_product (p, stream);
  return error;
}

int
valley_cuda_linear (ValleyCudaBlas *blas, const ValleyCudaMatrix *y, const ValleyCudaMatrix *x,
                    const ValleyCudaMatrix *w, const ValleyCudaMatrix *bias,
                    ValleyCudaActivation act, ValleyCudaRole role, cudaStream_t stream)
{
  ValleyCudaProduct p = { y, x, w, bias, act, 0 };

  if (y->rows == 0 || y->cols == 0)
    return cudaGetLastError ();
  if (role == VALLEY_CUDA_PROMPT)
    return prompt_product (blas, &p, stream);
  return is_usual (&p) ? valley_cuda_few_products (&p, 1, stream)
                       : valley_cuda_plain_product (&p, stream);
}

/* Whether one kernel can do them: all as usual, of one type, and nothing empty. */
static int
are_alike (const ValleyCudaProduct *products, int n)
{
  for (int i = 0; i < n; i++) {
    const ValleyCudaMatrix *y = products[i].y;

    if (!is_usual (&products[i]) || y->type != products[0].y->type || y->rows == 0 || y->cols == 0)
      return 0;
  }
  return n > 0;
}

/* Whether @b goes on where @a ends: with its columns, or @down with its rows. */
static int
goes_on (const ValleyCudaMatrix *a, const ValleyCudaMatrix *b, int down)
{
  size_t element = a->type == VALLEY_CUDA_F32 ? 4 : 2;
  const char *end = (const char *) a->data + (down ? a->rows * a->stride : a->cols) * element;

  return b->data == (const void *) end && a->type == b->type && a->stride == b->stride
         && (down ? a->cols == b->cols : a->rows == b->rows);
}

/* Memory that merely happens to follow other memory does not make one row of two. */
static int
is_one_product (const ValleyCudaProduct *products, int n)
{
  size_t cols = 0;

  for (int i = 0; i < n; i++)
    cols += products[i].y->cols;
  if (cols > products[0].y->stride)
    return 0;
  for (int i = 1; i < n; i++) {
    const ValleyCudaProduct *a = &products[i - 1], *b = &products[i];

    if (!goes_on (a->w, b->w, 1) || !goes_on (a->y, b->y, 0)
        || (a->bias != NULL) != (b->bias != NULL)
        || (a->bias != NULL && !goes_on (a->bias, b->bias, 0)))
      return 0;
  }
  return n > 1;
}

static int
joined_product (ValleyCudaBlas *blas, const ValleyCudaProduct *products, int n, cudaStream_t stream)
{
  const ValleyCudaProduct *first = &products[0];
  ValleyCudaMatrix y = *first->y, w = *first->w, bias = { 0 };

  if (first->bias != NULL)
    bias = *first->bias;
  for (int i = 1; i < n; i++) {
    y.cols += products[i].y->cols;
    w.rows += products[i].w->rows;
  }
  bias.cols = y.cols;
  return valley_cuda_linear (blas, &y, first->x, &w, first->bias != NULL ? &bias : NULL,
                             VALLEY_CUDA_ACT_NONE, VALLEY_CUDA_PROMPT, stream);
}

int
valley_cuda_linears (ValleyCudaBlas *blas, const ValleyCudaProduct *products, int n,
                     ValleyCudaRole role, cudaStream_t stream)
{
  int error = cudaSuccess;

  if (role == VALLEY_CUDA_GENERATED && are_alike (products, n))
    return valley_cuda_few_products (products, n, stream);
  if (role == VALLEY_CUDA_PROMPT && is_one_product (products, n))
    return joined_product (blas, products, n, stream);
  for (int i = 0; i < n && error == cudaSuccess; i++) {
    const ValleyCudaProduct *p = &products[i];

    error
        = valley_cuda_linear (blas, p->y, p->x, p->w, p->bias, VALLEY_CUDA_ACT_NONE, role, stream);
  }
  return error;
}

int
valley_cuda_mix (ValleyCudaBlas *blas, const ValleyCudaMatrix *y, const ValleyCudaMatrix *x,
                 const ValleyCudaMatrix *w, cudaStream_t stream)
{
  ValleyCudaProduct p = { y, x, w, NULL, VALLEY_CUDA_ACT_NONE, 1 };

  if (y->rows == 0 || y->cols == 0)
    return cudaGetLastError ();
  return prompt_product (blas, &p, stream);
}
