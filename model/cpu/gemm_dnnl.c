/* gemm_dnnl.c - matrix products through oneDNN's matmul primitive; the only file that knows
 * oneDNN, and it builds with its versions 2 and 3.
 *
 * The library must not start threads of its own (our pool has split the work already, and
 * OpenMP's threads would compete with GStreamer's), so each thread that comes here limits
 * itself to one.  Primitives are made for a shape and kept: making one costs as much as a
 * small product.  inner_product is avoided: its bits depend on the number of rows.
 * SPDX-License-Identifier: Apache-2.0 */
#include "alloc.h"
#include "gemm.h"

#include "kernels.h"

#include <oneapi/dnnl/dnnl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define MAX_CACHED 256

#ifdef VALLEY_HAVE_GOMP
/* The two functions we need; their header is not where every compiler looks. */
extern int omp_get_max_threads (void);
extern void omp_set_num_threads (int n);
#endif

/* ---- what differs between oneDNN 2 and 3 ---- */

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t Layout;
#define LAYOUT(layout) (layout)

static gboolean
layout_init (Layout *layout, const dnnl_dims_t size, dnnl_data_type_t type,
             const dnnl_dims_t strides)
{
  return dnnl_memory_desc_create_with_strides (layout, 2, size, type, strides) == dnnl_success;
}

static void
layout_clear (Layout *layout)
{
  if (*layout != NULL)
    dnnl_memory_desc_destroy (*layout);
}

static gboolean
describe (dnnl_primitive_desc_t *out, dnnl_engine_t engine, const Layout *a, const Layout *b,
          const Layout *c, dnnl_primitive_attr_t attributes)
{
  return dnnl_matmul_primitive_desc_create (out, engine, *a, *b, NULL, *c, attributes)
         == dnnl_success;
}

static gboolean
append_sum (dnnl_post_ops_t operations)
{
  return dnnl_post_ops_append_sum (operations, 1, 0, dnnl_data_type_undef) == dnnl_success;
}

static gsize
layout_bytes (const_dnnl_memory_desc_t layout)
{
  return dnnl_memory_desc_get_size (layout);
}
#else
typedef dnnl_memory_desc_t Layout;
#define LAYOUT(layout) (&(layout))

static gboolean
layout_init (Layout *layout, const dnnl_dims_t size, dnnl_data_type_t type,
             const dnnl_dims_t strides)
{
  return dnnl_memory_desc_init_by_strides (layout, 2, size, type, strides) == dnnl_success;
}

static void
layout_clear (Layout *layout)
{
}

static gboolean
describe (dnnl_primitive_desc_t *out, dnnl_engine_t engine, const Layout *a, const Layout *b,
          const Layout *c, dnnl_primitive_attr_t attributes)
{
  dnnl_matmul_desc_t matmul;

  return dnnl_matmul_desc_init (&matmul, a, b, NULL, c) == dnnl_success
         && dnnl_primitive_desc_create (out, &matmul, attributes, engine, NULL) == dnnl_success;
}

static gboolean
append_sum (dnnl_post_ops_t operations)
{
  return dnnl_post_ops_append_sum (operations, 1) == dnnl_success;
}

static gsize
layout_bytes (const dnnl_memory_desc_t *layout)
{
  return dnnl_memory_desc_get_size (layout);
}
#endif

/* ---- a product of one shape ---- */

typedef struct {
  gint refs; /* atomic */
  ValleyGemmShape shape;
  Layout a, b, c;
  dnnl_primitive_t primitive;
  gsize scratch_bytes;
  GList *link; /* its place in the cache's order */
} Product;

static dnnl_engine_t
get_engine (void)
{
  static gsize engine;

  if (g_once_init_enter (&engine)) {
    const char *cap = valley_kernels_get ()->name;
    dnnl_engine_t created = NULL;

    /* Fails harmlessly when the application has used the library before us. */
    if (strcmp (cap, "c") == 0)
      dnnl_set_max_cpu_isa (dnnl_cpu_isa_sse41);
    else if (strcmp (cap, "avx2") == 0)
      dnnl_set_max_cpu_isa (dnnl_cpu_isa_avx2);
    else if (strcmp (cap, "avx512") == 0)
      dnnl_set_max_cpu_isa (dnnl_cpu_isa_avx512_core_vnni);
    dnnl_engine_create (&created, dnnl_cpu, 0);
    g_once_init_leave (&engine, created != NULL ? (gsize) created : 1);
  }
  return engine != 1 ? (dnnl_engine_t) engine : NULL;
}

static void
product_unref (gpointer data)
{
  Product *product = data;

  if (!g_atomic_int_dec_and_test (&product->refs))
    return;
  if (product->primitive != NULL)
    dnnl_primitive_destroy (product->primitive);
  layout_clear (&product->a);
  layout_clear (&product->b);
  layout_clear (&product->c);
  g_free (product);
}

static gboolean
product_layouts (Product *product)
{
  const ValleyGemmShape *s = &product->shape;
  dnnl_data_type_t type = s->dtype == VALLEY_BF16 ? dnnl_bf16 : dnnl_f32;
  dnnl_dim_t m = (dnnl_dim_t) s->m, n = (dnnl_dim_t) s->n, k = (dnnl_dim_t) s->k;
  dnnl_dim_t b_stride = (dnnl_dim_t) s->b_stride;
  dnnl_dims_t b_strides = { s->b_transposed ? 1 : b_stride, s->b_transposed ? b_stride : 1 };

  return layout_init (&product->a, (dnnl_dims_t){ m, k }, type,
                      (dnnl_dims_t){ (dnnl_dim_t) s->a_stride, 1 })
         && layout_init (&product->b, (dnnl_dims_t){ k, n }, type, b_strides)
         && layout_init (&product->c, (dnnl_dims_t){ m, n }, dnnl_f32,
                         (dnnl_dims_t){ (dnnl_dim_t) s->c_stride, 1 });
}

/* Scratch comes from us: the library's own would be shared between threads. */
static dnnl_primitive_attr_t
product_attributes (const Product *product)
{
  dnnl_primitive_attr_t attributes = NULL;
  dnnl_post_ops_t operations = NULL;
  gboolean good = dnnl_primitive_attr_create (&attributes) == dnnl_success
                  && dnnl_primitive_attr_set_scratchpad_mode (attributes, dnnl_scratchpad_mode_user)
                         == dnnl_success;

  if (good && product->shape.accumulate) {
    good = dnnl_post_ops_create (&operations) == dnnl_success && append_sum (operations)
           && dnnl_primitive_attr_set_post_ops (attributes, operations) == dnnl_success;
    if (operations != NULL)
      dnnl_post_ops_destroy (operations);
  }
  if (good)
    return attributes;
  if (attributes != NULL)
    dnnl_primitive_attr_destroy (attributes);
  return NULL;
}

static Product *
product_new (const ValleyGemmShape *shape)
{
  Product *product = g_new0 (Product, 1);
  dnnl_primitive_attr_t attributes;
  dnnl_primitive_desc_t description = NULL;

  product->refs = 1;
  product->shape = *shape;
  attributes = product_attributes (product);
  if (attributes != NULL && product_layouts (product)
      && describe (&description, get_engine (), &product->a, &product->b, &product->c,
                   attributes)) {
    product->scratch_bytes
        = layout_bytes (dnnl_primitive_desc_query_md (description, dnnl_query_scratchpad_md, 0));
    if (dnnl_primitive_create (&product->primitive, description) != dnnl_success)
      product->primitive = NULL;
    dnnl_primitive_desc_destroy (description);
  }
  if (attributes != NULL)
    dnnl_primitive_attr_destroy (attributes);
  if (product->primitive != NULL)
    return product;
  product_unref (product);
  return NULL;
}

/* ---- the cache of products, oldest use last ---- */

static pthread_mutex_t cache_lock = PTHREAD_MUTEX_INITIALIZER; /* as in pool.c */
static GHashTable *cache;                                      /* shape -> Product */
static GQueue cache_order = G_QUEUE_INIT;

static guint
shape_hash (gconstpointer data)
{
  const ValleyGemmShape *s = data;
  gsize parts[] = { s->m,
                    s->n,
                    s->k,
                    s->a_stride,
                    s->b_stride,
                    s->c_stride,
                    (gsize) s->dtype * 4 + (gsize) s->b_transposed * 2 + (gsize) s->accumulate };
  guint64 hash = 0;

  for (gsize i = 0; i < G_N_ELEMENTS (parts); i++)
    hash = (hash ^ parts[i]) * 0x9e3779b97f4a7c15u;
  return (guint) (hash >> 32);
}

static gboolean
shape_equal (gconstpointer x, gconstpointer y)
{
  const ValleyGemmShape *a = x, *b = y;

  return a->m == b->m && a->n == b->n && a->k == b->k && a->a_stride == b->a_stride
         && a->b_stride == b->b_stride && a->c_stride == b->c_stride && a->dtype == b->dtype
         && a->b_transposed == b->b_transposed && a->accumulate == b->accumulate;
}

/* With the lock held. */
static void
cache_insert (Product *product)
{
  g_atomic_int_inc (&product->refs);
  g_queue_push_head (&cache_order, product);
  product->link = cache_order.head;
  g_hash_table_insert (cache, &product->shape, product);
  if (cache_order.length > MAX_CACHED) {
    Product *oldest = g_queue_pop_tail (&cache_order);

    g_hash_table_remove (cache, &oldest->shape);
  }
}

static Product *
product_get (const ValleyGemmShape *shape)
{
  Product *product;

  pthread_mutex_lock (&cache_lock);
  if (cache == NULL)
    cache = g_hash_table_new_full (shape_hash, shape_equal, NULL, product_unref);
  product = g_hash_table_lookup (cache, shape);
  if (product != NULL) {
    g_queue_unlink (&cache_order, product->link);
    g_queue_push_head_link (&cache_order, product->link);
    g_atomic_int_inc (&product->refs);
  } else if ((product = product_new (shape)) != NULL) {
    cache_insert (product);
  }
  pthread_mutex_unlock (&cache_lock);
  return product;
}

/* Products hold nothing of the library's threads; dropped so that leak checkers see no cache. */
static void __attribute__ ((destructor)) cache_free (void)
{
  g_clear_pointer (&cache, g_hash_table_unref);
  g_queue_clear (&cache_order);
}

/* ---- per thread ---- */

typedef struct {
  dnnl_stream_t stream;
  gpointer scratch;
  gsize scratch_bytes;
  gboolean lacked_memory;
} Local;

static void
local_free (gpointer data)
{
  Local *local = data;

  if (local->stream != NULL)
    dnnl_stream_destroy (local->stream);
  free (local->scratch);
  g_free (local);
}

static GPrivate local_key = G_PRIVATE_INIT (local_free);

static Local *
get_local (gsize scratch_bytes)
{
  Local *local = g_private_get (&local_key);

  if (local == NULL) {
    local = g_new0 (Local, 1);
    g_private_set (&local_key, local);
  }
  local->lacked_memory = FALSE;
  if (local->stream == NULL
      && dnnl_stream_create (&local->stream, get_engine (), dnnl_stream_default_flags)
             != dnnl_success)
    return NULL;
  if (scratch_bytes > local->scratch_bytes) {
    free (local->scratch);
    local->scratch_bytes = 0;
    local->scratch = valley_alloc_aligned (scratch_bytes);
    local->lacked_memory = local->scratch == NULL;
    if (local->lacked_memory)
      return NULL;
    local->scratch_bytes = scratch_bytes;
  }
  return local;
}

gboolean
valley_gemm_lacked_memory (void)
{
  const Local *local = g_private_get (&local_key);

  return local != NULL && local->lacked_memory;
}

static gboolean
execute (const Product *product, const Local *local, const void *a, const void *b, float *c)
{
  void *data[3] = { (void *) a, (void *) b, c };
  const Layout *layouts[3] = { &product->a, &product->b, &product->c };
  dnnl_exec_arg_t arguments[4]
      = { { DNNL_ARG_SRC, NULL }, { DNNL_ARG_WEIGHTS, NULL }, { DNNL_ARG_DST, NULL } };
  int n = 0;
  gboolean good = TRUE;

  for (; n < 3 && good; n++)
    good = dnnl_memory_create (&arguments[n].memory, LAYOUT (*layouts[n]), get_engine (), data[n])
           == dnnl_success;
  if (good && product->scratch_bytes > 0) {
    Layout layout = { 0 };

    good = layout_init (&layout, (dnnl_dims_t){ 1, (dnnl_dim_t) product->scratch_bytes }, dnnl_u8,
                        (dnnl_dims_t){ (dnnl_dim_t) product->scratch_bytes, 1 })
           && dnnl_memory_create (&arguments[n].memory, LAYOUT (layout), get_engine (),
                                  local->scratch)
                  == dnnl_success;
    arguments[n++].arg = DNNL_ARG_SCRATCHPAD;
    layout_clear (&layout);
  }
  good = good
         && dnnl_primitive_execute (product->primitive, local->stream, n, arguments) == dnnl_success
         && dnnl_stream_wait (local->stream) == dnnl_success;
  while (--n >= 0)
    if (arguments[n].memory != NULL)
      dnnl_memory_destroy (arguments[n].memory);
  return good;
}

gboolean
valley_gemm (const ValleyGemmShape *shape, const void *a, const void *b, float *c)
{
  gboolean good = FALSE;
  Product *product;
  Local *local;
#ifdef VALLEY_HAVE_GOMP
  int threads = omp_get_max_threads (); /* the caller may be the application's thread */

  omp_set_num_threads (1);
#endif

  product = get_engine () != NULL ? product_get (shape) : NULL;
  if (product != NULL) {
    local = get_local (product->scratch_bytes);
    good = local != NULL && execute (product, local, a, b, c);
    product_unref (product);
  }
#ifdef VALLEY_HAVE_GOMP
  omp_set_num_threads (threads);
#endif
  return good;
}

/* The user may have capped the library (ONEDNN_MAX_CPU_ISA) below what our kernels use, and a
 * build of it may lack the type: so it is asked, and tried. */
static gboolean
probe_bf16 (void)
{
  const ValleyGemmShape shape = { .dtype = VALLEY_BF16,
                                  .b_transposed = TRUE,
                                  .m = 16,
                                  .n = 16,
                                  .k = 32,
                                  .a_stride = 32,
                                  .b_stride = 32,
                                  .c_stride = 16 };
  Product *product;

  if (valley_kernels_get ()->gemv_bf16_bf16 == NULL || get_engine () == NULL
      || (dnnl_get_effective_cpu_isa () & dnnl_cpu_isa_avx512_core_bf16)
             != dnnl_cpu_isa_avx512_core_bf16)
    return FALSE;
  product = product_get (&shape);
  if (product == NULL)
    return FALSE;
  product_unref (product);
  return TRUE;
}

gboolean
valley_gemm_has_bf16 (void)
{
  static gsize answer; /* 1: no, 2: yes */

  if (g_once_init_enter (&answer))
    g_once_init_leave (&answer, probe_bf16 () ? 2 : 1);
  return answer == 2;
}

/* Measured with version 2.6 and AVX512-BF16 only (tests/test-exact.c).  AVX2 is known to break
 * it, AMX and later versions have not been tried. */
gboolean
valley_gemm_takes_any_rows (void)
{
  return DNNL_VERSION_MAJOR == 2 && valley_gemm_has_bf16 ()
         && dnnl_get_effective_cpu_isa () == dnnl_cpu_isa_avx512_core_bf16;
}
