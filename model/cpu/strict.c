/* strict.c - the CPU's operations for tests: a tensor's memory can be touched only while an
 * operation runs that was given it, and inputs only be read.
 *
 * What a GPU would do to a stage that peeks at device memory happens here as a fault at the
 * very line.  Blocks end at a page that is never accessible and start out filled with NaN,
 * so overruns and reads of undefined contents show too.
 * SPDX-License-Identifier: Apache-2.0 */
#include "alloc.h"
#include "internal.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static GMutex lock; /* two sessions may share a tensor: one operation at a time */

static ValleyMemory *
memory_new (ValleyBackend *backend, gsize bytes)
{
  gsize page = (gsize) sysconf (_SC_PAGESIZE), length;
  ValleyMemory *memory;
  guint8 *base;

  if (bytes > G_MAXSIZE - 3 * page)
    return NULL;
  length = (MAX (bytes, 1) + page - 1) / page * page;
  if (!valley_alloc_try ())
    return NULL;
  base = mmap (NULL, length + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED)
    return NULL;
  memset (base, 0xff, length); /* NaN in every type */
  mprotect (base, length + page, PROT_NONE);
  memory = g_new0 (ValleyMemory, 1);
  memory->base = base;
  memory->capacity = length;
  memory->bytes = bytes;
  memory->data = base + (length - bytes) / 64 * 64;
  return memory;
}

static void
memory_free (ValleyBackend *backend, ValleyMemory *memory)
{
  if (memory != NULL && memory->base != NULL)
    munmap (memory->base, memory->capacity + (gsize) sysconf (_SC_PAGESIZE));
  g_free (memory);
}

void
valley_cpu_memory_protect (ValleyMemory *memory, gboolean readable, gboolean writable)
{
  if (memory != NULL && memory->base != NULL)
    mprotect (memory->base, memory->capacity,
              (readable ? PROT_READ : PROT_NONE) | (writable ? PROT_WRITE : PROT_NONE));
}

static void
begin (const ValleyTensor *written, const ValleyTensor *const *read, gsize n)
{
  g_mutex_lock (&lock);
  for (gsize i = 0; i < n; i++)
    if (read[i] != NULL)
      valley_cpu_memory_protect (read[i]->memory, TRUE, FALSE);
  if (written != NULL)
    valley_cpu_memory_protect (written->memory, TRUE, TRUE);
}

static void
end (const ValleyTensor *written, const ValleyTensor *const *read, gsize n)
{
  for (gsize i = 0; i < n; i++)
    if (read[i] != NULL)
      valley_cpu_memory_protect (read[i]->memory, FALSE, FALSE);
  if (written != NULL)
    valley_cpu_memory_protect (written->memory, FALSE, FALSE);
  g_mutex_unlock (&lock);
}

static gboolean
download (ValleyStream *stream, const ValleyTensor *src, float *dst, GError **error)
{
  gboolean good;

  begin (NULL, &src, 1);
  good = valley_cpu_ops.download (stream, src, dst, error);
  end (NULL, &src, 1);
  return good;
}

/* STRICT (operation, its tensors to write and to read, its parameters, its arguments) */
#define READ(...) ((const ValleyTensor *const[]){ __VA_ARGS__ })
#define N_READ(...) (sizeof READ (__VA_ARGS__) / sizeof (const ValleyTensor *))
#define STRICT(operation, written, read, parameters, arguments)                                    \
  static void operation parameters                                                                 \
  {                                                                                                \
    begin (written, READ read, N_READ read);                                                       \
    valley_cpu_ops.operation arguments;                                                            \
    end (written, READ read, N_READ read);                                                         \
  }

STRICT (upload, y, (NULL), (ValleyStream * s, const ValleyTensor *y, const float *src), (s, y, src))
STRICT (copy, y, (x), (ValleyStream * s, const ValleyTensor *y, const ValleyTensor *x), (s, y, x))
STRICT (linear, y, (x, w, bias),
        (ValleyStream * s, const ValleyTensor *y, const ValleyTensor *x, const ValleyTensor *w,
         const ValleyTensor *bias, ValleyActivation act, ValleyRole role),
        (s, y, x, w, bias, act, role))
STRICT (mix, y, (x, w),
        (ValleyStream * s, const ValleyTensor *y, const ValleyTensor *x, const ValleyTensor *w),
        (s, y, x, w))
STRICT (embed, y, (table),
        (ValleyStream * s, const ValleyTensor *y, const ValleyTensor *table, const gint32 *ids),
        (s, y, table, ids))
STRICT (add, y, (x), (ValleyStream * s, const ValleyTensor *y, const ValleyTensor *x), (s, y, x))
STRICT (layer_norm, y, (x, weight, bias),
        (ValleyStream * s, const ValleyTensor *y, const ValleyTensor *x, const ValleyTensor *weight,
         const ValleyTensor *bias, float eps),
        (s, y, x, weight, bias, eps))
STRICT (rms_norm, y, (x, weight),
        (ValleyStream * s, const ValleyTensor *y, const ValleyTensor *x, const ValleyTensor *weight,
         float eps),
        (s, y, x, weight, eps))
STRICT (rope, x, (cos, sin),
        (ValleyStream * s, const ValleyTensor *x, const ValleyTensor *cos, const ValleyTensor *sin,
         gsize head_dim),
        (s, x, cos, sin, head_dim))
STRICT (swiglu, y, (gate, up),
        (ValleyStream * s, const ValleyTensor *y, const ValleyTensor *gate, const ValleyTensor *up),
        (s, y, gate, up))
STRICT (softmax, x, (NULL), (ValleyStream * s, const ValleyTensor *x), (s, x))
STRICT (one_hot, x, (NULL), (ValleyStream * s, const ValleyTensor *x), (s, x))
STRICT (im2col, y, (x),
        (ValleyStream * s, const ValleyTensor *y, const ValleyTensor *x, gsize side),
        (s, y, x, side))
STRICT (pixel_shuffle, y, (x),
        (ValleyStream * s, const ValleyTensor *y, const ValleyTensor *x, gsize side, gsize ratio),
        (s, y, x, side, ratio))
STRICT (average_pool, y, (x),
        (ValleyStream * s, const ValleyTensor *y, const ValleyTensor *x, gsize in_height,
         gsize in_width, gsize out_height, gsize out_width),
        (s, y, x, in_height, in_width, out_height, out_width))
STRICT (max_pool, y, (x),
        (ValleyStream * s, const ValleyTensor *y, const ValleyTensor *x, gsize in_height,
         gsize in_width, gsize out_height, gsize out_width),
        (s, y, x, in_height, in_width, out_height, out_width))
STRICT (gather, y, (x),
        (ValleyStream * s, const ValleyTensor *y, const ValleyTensor *x, const gint32 *rows),
        (s, y, x, rows))
STRICT (cosine, y, (x, z),
        (ValleyStream * s, const ValleyTensor *y, const ValleyTensor *x, const ValleyTensor *z),
        (s, y, x, z))

/* Keys and values may be many tensors. */
static void
attention (ValleyStream *s, const ValleyTensor *out, const ValleyTensor *q, const ValleyTensor *k,
           const ValleyTensor *v, const ValleyAttention *a)
{
  gsize n = a->page_rows == 0 ? 1 : (a->first_position + q->rows + a->page_rows - 1) / a->page_rows;
  g_autofree const ValleyTensor **read = g_new (const ValleyTensor *, 2 * n + 1);

  read[0] = q;
  for (gsize i = 0; i < n; i++) {
    read[1 + 2 * i] = &k[i];
    read[2 + 2 * i] = &v[i];
  }
  begin (out, read, 2 * n + 1);
  valley_cpu_ops.attention (s, out, q, k, v, a);
  end (out, read, 2 * n + 1);
}

void
valley_cpu_strict_ops_init (ValleyOps *ops)
{
  *ops = valley_cpu_ops;
  ops->memory_new = memory_new;
  ops->memory_free = memory_free;
  ops->upload = upload;
  ops->download = download;
  ops->copy = copy;
  ops->linear = linear;
  ops->mix = mix;
  ops->embed = embed;
  ops->add = add;
  ops->layer_norm = layer_norm;
  ops->rms_norm = rms_norm;
  ops->rope = rope;
  ops->swiglu = swiglu;
  ops->softmax = softmax;
  ops->one_hot = one_hot;
  ops->attention = attention;
  ops->im2col = im2col;
  ops->pixel_shuffle = pixel_shuffle;
  ops->average_pool = average_pool;
  ops->max_pool = max_pool;
  ops->gather = gather;
  ops->cosine = cosine;
}
