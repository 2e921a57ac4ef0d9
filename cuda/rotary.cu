/* rotary.cu - positions: heads are turned, and keys enter the pages, or are read from them.
 *
 * A thread turns one pair (d, d + half) of a head, or copies two elements of v.
 * SPDX-License-Identifier: Apache-2.0 */
#include "row.h"

#define THREADS 128

struct Angles {
  const float *cos, *sin;
  size_t cos_stride, sin_stride;
  const int32_t *positions;
  unsigned half;
};

static Angles
angles_of (const ValleyCudaMatrix *cos, const ValleyCudaMatrix *sin, const int32_t *positions,
           size_t head_dim)
{
  return {
    (const float *) cos->data, (const float *) sin->data, cos->stride, sin->stride, positions,
    (unsigned) (head_dim / 2)
  };
}

/* What the angles make of a pair of @from's row, @row being its place among the positions; the
 * two results lie half a head apart, perhaps where they came from. */
template <typename T>
static __device__ __forceinline__ void
turn_pair (T *to, const T *from, const Angles *angles, unsigned row, unsigned pair)
{
  unsigned half = angles->half, d = pair % half;
  size_t low = (size_t) (pair / half) * 2 * half + d, high = low + half;
  size_t at = angles->positions != NULL ? (size_t) angles->positions[row] : row;
  float c = angles->cos[at * angles->cos_stride + d], s = angles->sin[at * angles->sin_stride + d];
  float a = valley_to_f32 (from[low]), b = valley_to_f32 (from[high]);

  valley_from_f32 (to + low, a * c - b * s);
  valley_from_f32 (to + high, b * c + a * s);
}

template <typename T>
static __global__ void
__launch_bounds__ (THREADS) rope_rows (T *x, size_t stride, unsigned n_pairs, Angles angles)
{
  unsigned pair = blockIdx.y * THREADS + threadIdx.x;
  T *row = x + blockIdx.x * stride;

  if (pair < n_pairs)
    turn_pair (row, row, &angles, blockIdx.x, pair);
}

template <typename T>
static void
launch_rope (const ValleyCudaMatrix *x, Angles angles, cudaStream_t stream)
{
  T *data = (T *) x->data;
  size_t stride = x->stride;
  unsigned n_pairs = (unsigned) (x->cols / 2);

  VALLEY_LAUNCH (rope_rows, dim3 ((unsigned) x->rows, (n_pairs - 1) / THREADS + 1), THREADS, 0,
                 stream, data, stride, n_pairs, angles);
}

int
valley_cuda_rope (const ValleyCudaMatrix *x, const ValleyCudaMatrix *cos,
                  const ValleyCudaMatrix *sin, const int32_t *positions, size_t head_dim,
                  cudaStream_t stream)
{
  if (!valley_is_empty (x))
    VALLEY_BY_TYPE (x->type, launch_rope, x, angles_of (cos, sin, positions, head_dim), stream);
  return cudaGetLastError ();
}

/* ---- into the pages ---- */

template <typename T> struct Append {
  T *q;
  const T *k, *v;
  size_t q_stride, k_stride, v_stride;
  unsigned q_pairs, kv_pairs, n_skipped; /* rows before q's first */
  ValleyCudaKv kv;
};

/* One of k's pairs, as it comes and turned. */
template <typename T>
static __device__ __forceinline__ void
append_key (const Append<T> *a, T *page, size_t offset, const Angles *angles, unsigned row,
            unsigned pair)
{
  const T *k = a->k + row * a->k_stride;
  unsigned half = angles->half;
  size_t low = (size_t) (pair / half) * 2 * half + pair % half;

  if (a->kv.unrotated != SIZE_MAX) {
    T *as_it_comes = page + a->kv.unrotated + offset;

    as_it_comes[low] = k[low];
    as_it_comes[low + half] = k[low + half];
  }
  turn_pair (page + a->kv.keys + offset, k, angles, row, pair);
}

template <typename T>
static __global__ void
__launch_bounds__ (THREADS) append_rows (Append<T> a, Angles angles)
{
  unsigned i = blockIdx.y * THREADS + threadIdx.x, row = blockIdx.x;
  size_t at = (size_t) *a.kv.first + row, offset = at % a.kv.page_rows * a.kv.cols;
  T *page = (T *) a.kv.table[at / a.kv.page_rows];

  if (i < a.kv_pairs) {
    append_key (&a, page, offset, &angles, row, i);
  } else if (i < 2 * a.kv_pairs) {
    /* v's halves, so that neighbouring threads have neighbouring elements */
    const T *v = a.v + row * a.v_stride + (i - a.kv_pairs);
    T *to = page + a.kv.values + offset + (i - a.kv_pairs);

    to[0] = v[0];
    to[a.kv_pairs] = v[a.kv_pairs];
  } else if (i < 2 * a.kv_pairs + a.q_pairs && row >= a.n_skipped) {
    T *q = a.q + (row - a.n_skipped) * a.q_stride;

    turn_pair (q, q, &angles, row, i - 2 * a.kv_pairs);
  }
}

template <typename T>
static void
launch_append (const ValleyCudaMatrix *q, const ValleyCudaMatrix *k, const ValleyCudaMatrix *v,
               const ValleyCudaKv *kv, Angles angles, cudaStream_t stream)
{
  Append<T> a = { NULL,
                  (const T *) k->data,
                  (const T *) v->data,
                  0,
                  k->stride,
                  v->stride,
                  0,
                  (unsigned) (k->cols / 2),
                  0,
                  *kv };
  unsigned n;

  if (q != NULL) {
    a.q = (T *) q->data;
    a.q_stride = q->stride;
    a.q_pairs = (unsigned) (q->cols / 2);
    a.n_skipped = (unsigned) (k->rows - q->rows);
  }
  n = 2 * a.kv_pairs + a.q_pairs;
  VALLEY_LAUNCH (append_rows, dim3 ((unsigned) k->rows, (n - 1) / THREADS + 1), THREADS, 0, stream,
                 a, angles);
}

int
valley_cuda_rotate_append (const ValleyCudaMatrix *q, const ValleyCudaMatrix *k,
                           const ValleyCudaMatrix *v, const ValleyCudaMatrix *cos,
                           const ValleyCudaMatrix *sin, const int32_t *positions, size_t head_dim,
                           const ValleyCudaKv *kv, cudaStream_t stream)
{
  if (q != NULL && valley_is_empty (q))
    q = NULL;
  if (k->type != kv->type || v->type != kv->type || (q != NULL && q->type != kv->type))
    return cudaErrorInvalidValue;
  if (!valley_is_empty (k))
    VALLEY_BY_TYPE (k->type, launch_append, q, k, v, kv, angles_of (cos, sin, positions, head_dim),
                    stream);
  return cudaGetLastError ();
}

/* ---- out of the pages ---- */

template <typename T>
static __global__ void
__launch_bounds__ (THREADS) read_rows (T *y, size_t stride, ValleyCudaKv kv, size_t plane,
                                       size_t first)
{
  size_t at = first + blockIdx.x, i = (size_t) blockIdx.y * THREADS + threadIdx.x;
  const T *page = (const T *) kv.table[at / kv.page_rows];

  if (i < kv.cols)
    y[blockIdx.x * stride + i] = page[plane + at % kv.page_rows * kv.cols + i];
}

template <typename T>
static void
launch_read (const ValleyCudaMatrix *y, const ValleyCudaKv *kv, size_t plane, size_t first,
             cudaStream_t stream)
{
  T *data = (T *) y->data;
  size_t stride = y->stride;
  ValleyCudaKv pages = *kv;

  VALLEY_LAUNCH (read_rows, dim3 ((unsigned) y->rows, (unsigned) ((y->cols - 1) / THREADS + 1)),
                 THREADS, 0, stream, data, stride, pages, plane, first);
}

int
valley_cuda_read_pages (const ValleyCudaMatrix *y, const ValleyCudaKv *kv, size_t plane,
                        size_t first, cudaStream_t stream)
{
  if (y->type != kv->type || y->cols != kv->cols)
    return cudaErrorInvalidValue;
  if (!valley_is_empty (y))
    VALLEY_BY_TYPE (y->type, launch_read, y, kv, plane, first, stream);
  return cudaGetLastError ();
}
