/* pages.h - for tests of operations: keys and values in pages, each in a memory of its own, whose
 * rows behind the last one are NaN.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "device.h"

typedef struct {
  ValleyMemory **memories;
  ValleyKv kv; /* nothing is being appended: first_row is 0 */
} Pages;

static inline void
pages_fill (Device *d, const Pages *p, gsize page, gsize plane, const float *rows, gsize n)
{
  const ValleyKv *kv = &p->kv;
  g_autofree float *host = g_new (float, kv->page_rows * kv->cols);
  ValleyTensor tensor = { .memory = p->memories[page],
                          .dtype = kv->dtype,
                          .offset = plane,
                          .rows = kv->page_rows,
                          .cols = kv->cols,
                          .stride = kv->cols };

  for (gsize i = 0; i < kv->page_rows * kv->cols; i++)
    host[i] = i < n * kv->cols ? rows[i] : NAN;
  OPS (*d)->upload (d->stream, &tensor, host);
}

/* @k and @v: @n rows of @cols. */
static inline Pages
pages_new (Device *d, ValleyDType type, gsize page_rows, gsize cols, const float *k, const float *v,
           gsize n)
{
  gsize n_pages = (n + page_rows - 1) / page_rows, plane = page_rows * cols;
  Pages p = { .memories = g_new (ValleyMemory *, n_pages),
              .kv = { .n_pages = n_pages,
                      .dtype = type,
                      .page_rows = page_rows,
                      .cols = cols,
                      .keys = 3, /* anywhere */
                      .values = plane + 7,
                      .unrotated = G_MAXSIZE,
                      .most_rows = n } };

  for (gsize i = 0; i < n_pages; i++) {
    gsize first = i * page_rows, rows = MIN (page_rows, n - first);

    p.memories[i] = OPS (*d)->memory_new (d->backend, (2 * plane + 7) * valley_dtype_bytes (type));
    g_assert_nonnull (p.memories[i]);
    pages_fill (d, &p, i, p.kv.keys, k + first * cols, rows);
    pages_fill (d, &p, i, p.kv.values, v + first * cols, rows);
  }
  p.kv.pages = p.memories;
  return p;
}

static inline void
pages_clear (Device *d, Pages *p)
{
  for (gsize i = 0; i < p->kv.n_pages; i++)
    OPS (*d)->memory_free (d->backend, p->memories[i]);
  g_free (p->memories);
}
