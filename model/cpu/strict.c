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

/* What an operation was given. */
typedef struct {
  const ValleyTensor *const *tensors;
  gsize n;
} Given;

static void
protect (const Given *given, gboolean readable, gboolean writable)
{
  for (gsize i = 0; i < given->n; i++)
    if (given->tensors[i] != NULL)
      valley_cpu_memory_protect (given->tensors[i]->memory, readable, writable);
}

static void
protect_pages (const ValleyKv *kv, gboolean readable, gboolean writable)
{
  for (gsize i = 0; kv != NULL && i < kv->n_pages; i++)
    valley_cpu_memory_protect (kv->pages[i], readable, writable);
}

static void
begin (Given written, Given read)
{
  g_mutex_lock (&lock);
  protect (&read, TRUE, FALSE);
  protect (&written, TRUE, TRUE);
}

static void
end (Given written, Given read)
{
  protect (&read, FALSE, FALSE);
  protect (&written, FALSE, FALSE);
  g_mutex_unlock (&lock);
}

#define LIST(...) ((const ValleyTensor *const[]){ __VA_ARGS__ })
#define GIVEN(...)                                                                                 \
  ((Given){ LIST (__VA_ARGS__), sizeof LIST (__VA_ARGS__) / sizeof (const ValleyTensor *) })

static gboolean
download (ValleyStream *stream, const ValleyTensor *src, float *dst, GError **error)
{
  gboolean good;

  begin (GIVEN (NULL), GIVEN (src));
  good = valley_cpu_ops.download (stream, src, dst, error);
  end (GIVEN (NULL), GIVEN (src));
  return good;
}

static gboolean
download_ids (ValleyStream *stream, const ValleyTensor *src, gint32 *dst, GError **error)
{
  gboolean good;

  begin (GIVEN (NULL), GIVEN (src));
  good = valley_cpu_ops.download_ids (stream, src, dst, error);
  end (GIVEN (NULL), GIVEN (src));
  return good;
}

/* STRICT (operation, its tensors to write and to read, its parameters, its arguments) */
#define STRICT(operation, written, read, parameters, arguments)                                    \
  static void operation parameters                                                                 \
  {                                                                                                \
    begin (GIVEN written, GIVEN read);                                                             \
    valley_cpu_ops.operation arguments;                                                            \
    end (GIVEN written, GIVEN read);                                                               \
  }

STRICT (upload, (y), (NULL), (ValleyStream * s, const ValleyTensor *y, const float *src),
        (s, y, src))
STRICT (upload_ids, (y), (NULL), (ValleyStream * s, const ValleyTensor *y, const gint32 *src),
        (s, y, src))
STRICT (copy, (y), (x), (ValleyStream * s, const ValleyTensor *y, const ValleyTensor *x), (s, y, x))
STRICT (linear, (y), (x, w, bias),
        (ValleyStream * s, const ValleyTensor *y, const ValleyTensor *x, const ValleyTensor *w,
         const ValleyTensor *bias, ValleyActivation act, ValleyRole role),
        (s, y, x, w, bias, act, role))
STRICT (mix, (y), (x, w),
        (ValleyStream * s, const ValleyTensor *y, const ValleyTensor *x, const ValleyTensor *w),
        (s, y, x, w))
STRICT (add, (y), (x), (ValleyStream * s, const ValleyTensor *y, const ValleyTensor *x), (s, y, x))
STRICT (layer_norm, (y, valley_cpu_given (delta) ? x : NULL), (x, delta, weight, bias),
        (ValleyStream * s, const ValleyTensor *y, const ValleyTensor *x, const ValleyTensor *delta,
         const ValleyTensor *weight, const ValleyTensor *bias, float eps),
        (s, y, x, delta, weight, bias, eps))
STRICT (rms_norm, (y, valley_cpu_given (delta) ? x : NULL), (x, delta, weight),
        (ValleyStream * s, const ValleyTensor *y, const ValleyTensor *x, const ValleyTensor *delta,
         const ValleyTensor *weight, float eps),
        (s, y, x, delta, weight, eps))
STRICT (rope, (x), (cos, sin, positions),
        (ValleyStream * s, const ValleyTensor *x, const ValleyTensor *cos, const ValleyTensor *sin,
         const ValleyTensor *positions, gsize head_dim),
        (s, x, cos, sin, positions, head_dim))
STRICT (swiglu, (y), (gate, up),
        (ValleyStream * s, const ValleyTensor *y, const ValleyTensor *gate, const ValleyTensor *up),
        (s, y, gate, up))
STRICT (softmax, (x), (NULL), (ValleyStream * s, const ValleyTensor *x), (s, x))
STRICT (one_hot, (x), (NULL), (ValleyStream * s, const ValleyTensor *x), (s, x))
STRICT (im2col, (y), (x),
        (ValleyStream * s, const ValleyTensor *y, const ValleyTensor *x, gsize side),
        (s, y, x, side))
STRICT (pixel_shuffle, (y), (x),
        (ValleyStream * s, const ValleyTensor *y, const ValleyTensor *x, gsize side, gsize ratio),
        (s, y, x, side, ratio))
STRICT (average_pool, (y), (x),
        (ValleyStream * s, const ValleyTensor *y, const ValleyTensor *x, gsize in_height,
         gsize in_width, gsize out_height, gsize out_width),
        (s, y, x, in_height, in_width, out_height, out_width))
STRICT (max_pool, (y), (x),
        (ValleyStream * s, const ValleyTensor *y, const ValleyTensor *x, gsize in_height,
         gsize in_width, gsize out_height, gsize out_width),
        (s, y, x, in_height, in_width, out_height, out_width))
STRICT (gather, (y), (x, ids),
        (ValleyStream * s, const ValleyTensor *y, const ValleyTensor *x, const ValleyTensor *ids),
        (s, y, x, ids))
STRICT (attention, (out), (q, k, v),
        (ValleyStream * s, const ValleyTensor *out, const ValleyTensor *q, const ValleyTensor *k,
         const ValleyTensor *v, const ValleyAttention *a),
        (s, out, q, k, v, a))
STRICT (cosine, (y), (x, z),
        (ValleyStream * s, const ValleyTensor *y, const ValleyTensor *x, const ValleyTensor *z),
        (s, y, x, z))
STRICT (pick, (picks), (logits, p->seen, p->inputs, p->allowed, p->draws),
        (ValleyStream * s, const ValleyTensor *picks, const ValleyTensor *logits,
         const ValleyPick *p),
        (s, picks, logits, p))
STRICT (see, (seen), (ids), (ValleyStream * s, const ValleyTensor *seen, const ValleyTensor *ids),
        (s, seen, ids))

static void
rotate_append (ValleyStream *s, const ValleyTensor *q, const ValleyTensor *k, const ValleyTensor *v,
               const ValleyTensor *cos, const ValleyTensor *sin, const ValleyTensor *positions,
               gsize head_dim, const ValleyKv *kv)
{
  begin (GIVEN (q, k), GIVEN (v, cos, sin, positions));
  protect_pages (kv, TRUE, TRUE);
  valley_cpu_ops.rotate_append (s, q, k, v, cos, sin, positions, head_dim, kv);
  protect_pages (kv, FALSE, FALSE);
  end (GIVEN (q, k), GIVEN (v, cos, sin, positions));
}

static void
read_pages (ValleyStream *s, const ValleyTensor *y, const ValleyKv *kv, gsize plane, gsize first)
{
  begin (GIVEN (y), GIVEN (NULL));
  protect_pages (kv, TRUE, FALSE);
  valley_cpu_ops.read_pages (s, y, kv, plane, first);
  protect_pages (kv, FALSE, FALSE);
  end (GIVEN (y), GIVEN (NULL));
}

static void
attend (ValleyStream *s, const ValleyTensor *out, const ValleyTensor *q, const ValleyKv *kv,
        const ValleyAttention *a)
{
  begin (GIVEN (out), GIVEN (q));
  protect_pages (kv, TRUE, FALSE);
  valley_cpu_ops.attend (s, out, q, kv, a);
  protect_pages (kv, FALSE, FALSE);
  end (GIVEN (out), GIVEN (q));
}

void
valley_cpu_strict_ops_init (ValleyOps *ops)
{
  *ops = valley_cpu_ops;
  ops->memory_new = memory_new;
  ops->memory_free = memory_free;
  ops->upload = upload;
  ops->download = download;
  ops->upload_ids = upload_ids;
  ops->download_ids = download_ids;
  ops->copy = copy;
  ops->linear = linear;
  ops->mix = mix;
  ops->add = add;
  ops->layer_norm = layer_norm;
  ops->rms_norm = rms_norm;
  ops->rope = rope;
  ops->rotate_append = rotate_append;
  ops->read_pages = read_pages;
  ops->swiglu = swiglu;
  ops->softmax = softmax;
  ops->one_hot = one_hot;
  ops->attention = attention;
  ops->attend = attend;
  ops->im2col = im2col;
  ops->pixel_shuffle = pixel_shuffle;
  ops->average_pool = average_pool;
  ops->max_pool = max_pool;
  ops->gather = gather;
  ops->cosine = cosine;
  ops->pick = pick;
  ops->see = see;
}
