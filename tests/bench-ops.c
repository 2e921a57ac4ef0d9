/* bench-ops.c - how near the CPU's operations come to what the machine can do.  Not a test:
 * `ninja -C build tests/bench-ops && build/tests/bench-ops [threads ...]`.
 *
 * Machines differ and the same one is slower in the next minute, so every figure is printed
 * with its ratio to a peak measured right before and after it: multiply-adds in registers for
 * arithmetic, reading memory for decoding.  On a machine that others use too the time on the
 * clock says little; the last column counts the time our threads had a core instead.
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels.h"
#include "pool.h"

#include "compare.h"
#include "device.h"
#include "gemm.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#ifdef VALLEY_HAVE_X86
#include <immintrin.h>
#endif

typedef struct {
  double wall, cpu; /* seconds */
} Time;

static double
clock_seconds (clockid_t id)
{
  struct timespec t;

  clock_gettime (id, &t);
  return (double) t.tv_sec + (double) t.tv_nsec * 1e-9;
}

static Time
now (void)
{
  return (Time){ clock_seconds (CLOCK_MONOTONIC), clock_seconds (CLOCK_PROCESS_CPUTIME_ID) };
}

static const Time forever = { G_MAXDOUBLE, G_MAXDOUBLE };

static void
take_best (Time *best, Time start)
{
  Time end = now ();

  best->wall = MIN (best->wall, end.wall - start.wall);
  best->cpu = MIN (best->cpu, end.cpu - start.cpu);
}

/* Amounts a second, by either time. */
static Time
rate_of (double amount, Time time)
{
  return (Time){ amount / time.wall, amount / time.cpu };
}

/* ---- peaks ---- */

#define ROUNDS 200000 /* of sixteen independent chains each */

#ifdef VALLEY_HAVE_X86
/* The empty assembly keeps each chain in a register and the compiler from folding them. */
#define FOUR(step, i) step (i) step (i + 1) step (i + 2) step (i + 3)
#define SIXTEEN(step) FOUR (step, 0) FOUR (step, 4) FOUR (step, 8) FOUR (step, 12)
#define FMA512(i)                                                                                  \
  a[i] = _mm512_fmadd_ps (a[i], b, b);                                                             \
  __asm__ volatile("" : "+v"(a[i]));
#define FMA256(i)                                                                                  \
  a[i] = _mm256_fmadd_ps (a[i], b, b);                                                             \
  __asm__ volatile("" : "+x"(a[i]));
#define DOT512(i)                                                                                  \
  a[i] = _mm512_dpbf16_ps (a[i], b, b);                                                            \
  __asm__ volatile("" : "+v"(a[i]));

__attribute__ ((target ("avx512f"))) static void
fma_avx512 (gsize task, gpointer data)
{
  __m512 a[16] = { _mm512_setzero_ps () }, b = _mm512_set1_ps (1e-9f);

  for (guint i = 0; i < ROUNDS; i++) {
    SIXTEEN (FMA512)
  }
}

__attribute__ ((target ("avx2,fma"))) static void
fma_avx2 (gsize task, gpointer data)
{
  __m256 a[16] = { _mm256_setzero_ps () }, b = _mm256_set1_ps (1e-9f);

  for (guint i = 0; i < ROUNDS; i++) {
    SIXTEEN (FMA256)
  }
}

#ifdef VALLEY_HAVE_AVX512BF16
__attribute__ ((target ("avx512f,avx512bf16"))) static void
dot_bf16 (gsize task, gpointer data)
{
  __m512 a[16] = { _mm512_setzero_ps () };
  __m512bh b = (__m512bh) _mm512_set1_epi16 (0x3000);

  for (guint i = 0; i < ROUNDS; i++) {
    SIXTEEN (DOT512)
  }
}
#endif
#endif

/* Operations a second, or 0 where we have no probe. */
static Time
peak_flops (guint threads, gboolean bf16)
{
  Time best = forever;
  double each = 0;
  ValleyTaskFunc probe = NULL;

#ifdef VALLEY_HAVE_X86
  if (strcmp (valley_kernels_get ()->name, "avx2") == 0)
    probe = fma_avx2, each = 16;
  else if (strncmp (valley_kernels_get ()->name, "avx512", 6) == 0)
    probe = fma_avx512, each = 32;
#ifdef VALLEY_HAVE_AVX512BF16
  if (bf16 && valley_gemm_has_bf16 ())
    probe = dot_bf16, each = 64;
#endif
#endif
  for (guint i = 0; probe != NULL && i < 12; i++) {
    Time start = now ();

    valley_pool_run (threads, threads, NULL, probe, NULL);
    take_best (&best, start);
  }
  return rate_of (ROUNDS * 16.0 * each * threads, best);
}

typedef struct {
  const guint64 *words;
  gsize n, part;
  guint64 sums[256];
} Reading;

static void
read_part (gsize task, gpointer data)
{
  Reading *reading = data;
  const guint64 *words = reading->words + task * reading->part;
  guint64 sums[8] = { 0 };

  for (gsize i = 0; i + 8 <= reading->part; i += 8)
    for (gsize j = 0; j < 8; j++)
      sums[j] += words[i + j];
  for (gsize j = 0; j < 8; j++)
    reading->sums[task] += sums[j];
}

/* Bytes a second. */
static Time
peak_bandwidth (guint threads)
{
  gsize bytes = (gsize) 256 << 20;
  g_autofree guint64 *words = g_malloc (bytes);
  Reading reading = { .words = words, .part = bytes / 8 / 256 };
  Time best = forever;

  memset (words, 1, bytes);
  for (guint i = 0; i < 5; i++) {
    Time start = now ();

    valley_pool_run (threads, 256, NULL, read_part, &reading);
    take_best (&best, start);
  }
  return rate_of ((double) bytes, best);
}

static void
report (guint threads, const char *what, Time rate, Time before, Time after, const char *unit)
{
  Time peak = { MAX (before.wall, after.wall), MAX (before.cpu, after.cpu) };

  printf ("  %-42s %7.1f %s", what, rate.wall * 1e-9, unit);
  if (peak.wall > 0)
    printf ("  %3.0f %% of %4.0f", 100 * rate.wall / peak.wall, peak.wall * 1e-9);
  if (peak.wall > 0 && threads == 1)
    printf ("  %3.0f %% of %4.0f", 100 * rate.cpu / peak.cpu, peak.cpu * 1e-9);
  putchar ('\n');
}

/* ---- operations ---- */

static ValleyTensor
random_tensor (Device *d, ValleyDType type, gsize rows, gsize cols)
{
  g_autofree float *values = g_new (float, rows *cols);
  ValleyTensor tensor;

  for (gsize i = 0; i < rows * cols; i++)
    values[i] = (float) (i * 7919 % 1000) / 1000 - 0.5f;
  valley_tensor_init (d->stream, &tensor, type, rows, cols);
  OPS (*d)->upload (d->stream, &tensor, values);
  return tensor;
}

typedef struct {
  ValleyTensor x, w, y;
  ValleyRole role;
  ValleyAttention attention; /* n_heads 0: a product */
  gboolean causal;           /* over w as one page */
} Work;

/* Keys and values, the same rows, as one page; those from @first on are appended. */
static ValleyKv
one_page (const ValleyTensor *rows, gsize first)
{
  return (ValleyKv){ .pages = &rows->memory,
                     .n_pages = 1,
                     .dtype = rows->dtype,
                     .page_rows = (rows->rows + 63) / 64 * 64,
                     .cols = rows->cols,
                     .unrotated = G_MAXSIZE,
                     .first_row = first,
                     .most_rows = rows->rows };
}

static Time
best_time (Device *d, const Work *work)
{
  Time best = forever, begin = now ();
  ValleyKv kv = one_page (&work->w, 0);

  for (guint i = 0; i < 5 || (now ().wall - begin.wall < 0.5 && i < 2000); i++) {
    Time start = now ();

    if (work->causal)
      OPS (*d)->attend (d->stream, &work->y, &work->x, &kv, &work->attention);
    else if (work->attention.n_heads > 0)
      OPS (*d)->attention (d->stream, &work->y, &work->x, &work->w, &work->w, &work->attention);
    else
      OPS (*d)->linear (d->stream, &work->y, &work->x, &work->w, NULL, VALLEY_ACT_NONE, work->role);
    take_best (&best, start);
  }
  if (!OPS (*d)->stream_wait (d->stream, NULL))
    g_error ("the operation failed");
  return best;
}

static void
work_clear (Device *d, Work *work)
{
  valley_tensor_clear (d->backend, &work->x);
  valley_tensor_clear (d->backend, &work->w);
  valley_tensor_clear (d->backend, &work->y);
}

static void
bench_prompt (Device *d, guint threads, gsize m, gsize k, gsize n)
{
  gboolean bf16 = d->backend->precision == VALLEY_PRECISION_BF16;
  Time before = peak_flops (threads, bf16), time;
  Work work = { .x = random_tensor (d, VALLEY_F32, m, k),
                .w = random_tensor (d, bf16 ? VALLEY_BF16 : VALLEY_F32, n, k),
                .y = random_tensor (d, VALLEY_F32, m, n),
                .role = VALLEY_ROWS_PROMPT };
  g_autofree char *what
      = g_strdup_printf ("linear %s %zu x %zu x %zu", bf16 ? "bf16" : "f32", m, k, n);

  time = best_time (d, &work);
  report (threads, what, rate_of (2.0 * m * n * k, time), before, peak_flops (threads, bf16),
          "GFLOP/s");
  work_clear (d, &work);
}

static void
bench_generated (Device *d, guint threads, ValleyDType type, gsize k, gsize n)
{
  static const char *const names[] = { "f32", "bf16", "f16" };
  gsize bytes = n * k * valley_dtype_bytes (type);
  Time before = peak_bandwidth (threads), time;
  Work work = { .x = random_tensor (d, VALLEY_F32, 1, k),
                .w = random_tensor (d, type, n, k),
                .y = random_tensor (d, VALLEY_F32, 1, n),
                .role = VALLEY_ROWS_GENERATED };
  g_autofree char *what = g_strdup_printf ("one generated row, %s %zu x %zu", names[type], k, n);

  time = best_time (d, &work);
  report (threads, what, rate_of ((double) bytes, time), before, peak_bandwidth (threads),
          "GB/s   ");
  work_clear (d, &work);
}

static void
bench_attention (Device *d, guint threads, const char *name, gsize rows, gsize heads,
                 gsize kv_heads, gsize dim, gboolean causal)
{
  Time before = peak_flops (threads, FALSE), time;
  double pairs = (double) rows * rows;
  Work work = { .x = random_tensor (d, VALLEY_F32, rows, heads * dim),
                .w = random_tensor (d, VALLEY_F32, rows, kv_heads * dim),
                .y = random_tensor (d, VALLEY_F32, rows, heads * dim),
                .attention = { .n_heads = heads,
                               .n_kv_heads = kv_heads,
                               .head_dim = dim,
                               .scale = 0.1f,
                               .n_sequences = 1 },
                .causal = causal };

  time = best_time (d, &work);
  report (threads, name, rate_of ((causal ? 2 : 4) * pairs * heads * dim, time), before,
          peak_flops (threads, FALSE), "GFLOP/s");
  work_clear (d, &work);
}

/* Keys and values in pages, as the KV cache has them, beside the same in one tensor each; they
 * take turns. */
static void
bench_pages (Device *d, const char *name, gsize rows, gsize keys)
{
  enum { HEADS = 28, KV_HEADS = 4, DIM = 128, PAGE = 64 }; /* Qwen2 7 B */
  ValleyAttention a = { .n_heads = HEADS, .n_kv_heads = KV_HEADS, .head_dim = DIM, .scale = 0.1f };
  ValleyTensor q = random_tensor (d, VALLEY_F32, rows, HEADS * DIM);
  ValleyTensor out = random_tensor (d, VALLEY_F32, rows, HEADS * DIM);
  ValleyTensor k = random_tensor (d, VALLEY_BF16, keys, KV_HEADS * DIM);
  gsize n = (keys + PAGE - 1) / PAGE;
  g_autofree ValleyTensor *tensors = g_new (ValleyTensor, n);
  g_autofree ValleyMemory **pages = g_new (ValleyMemory *, n);
  ValleyKv whole = one_page (&k, keys - rows), paged = whole;
  Time best[2] = { forever, forever };

  for (gsize i = 0; i < n; i++) {
    tensors[i] = random_tensor (d, VALLEY_BF16, PAGE, KV_HEADS * DIM);
    pages[i] = tensors[i].memory;
  }
  paged.pages = pages;
  paged.n_pages = n;
  paged.page_rows = PAGE;
  for (guint i = 0; i < 40; i++) {
    Time start = now ();

    OPS (*d)->attend (d->stream, &out, &q, &whole, &a);
    take_best (&best[0], start);
    start = now ();
    OPS (*d)->attend (d->stream, &out, &q, &paged, &a);
    take_best (&best[1], start);
  }
  printf ("  %-42s %7.2f ms, in one tensor %.2f ms: %.2f times by time on a core\n", name,
          best[1].wall * 1e3, best[0].wall * 1e3, best[1].cpu / best[0].cpu);
  for (gsize i = 0; i < n; i++)
    valley_tensor_clear (d->backend, &tensors[i]);
  valley_tensor_clear (d->backend, &q);
  valley_tensor_clear (d->backend, &k);
  valley_tensor_clear (d->backend, &out);
}

static void
bench (guint threads)
{
  for (ValleyPrecision p = VALLEY_PRECISION_F32; p <= VALLEY_PRECISION_BF16; p++) {
    Device d = device_new (p, threads, FALSE);

    bench_prompt (&d, threads, 729, 1152, 1152); /* SigLIP */
    bench_prompt (&d, threads, 729, 1152, 4304);
    bench_prompt (&d, threads, 729, 4304, 1152);
    bench_prompt (&d, threads, 784, 1280, 5120); /* the Eagle tower */
    bench_prompt (&d, threads, 512, 896, 4864);  /* Qwen2 0.5 B */
    bench_prompt (&d, threads, 64, 192, 768);    /* the bundled model's size */
    bench_generated (&d, threads, p == VALLEY_PRECISION_F32 ? VALLEY_F32 : VALLEY_BF16, 3584,
                     18944); /* Qwen2 7 B */
    if (p == VALLEY_PRECISION_BF16)
      bench_generated (&d, threads, VALLEY_F16, 3584, 18944);
    device_clear (&d);
  }
  {
    Device d = device_new (VALLEY_PRECISION_F32, threads, FALSE);

    bench_attention (&d, threads, "attention SigLIP 729, 16 heads of 72", 729, 16, 16, 72, FALSE);
    bench_attention (&d, threads, "attention Eagle 784, 16 heads of 80", 784, 16, 16, 80, FALSE);
    bench_attention (&d, threads, "causal attention 1024, 14/2 heads of 64", 1024, 14, 2, 64, TRUE);
    bench_pages (&d, "attention over pages, 1 row, 6272 keys", 1, 6272);
    bench_pages (&d, "attention over pages, 392 rows, 6272 keys", 392, 6272);
    device_clear (&d);
  }
}

int
main (int argc, char **argv)
{
  printf ("kernels %s, bf16 instructions %s\n", valley_kernels_get ()->name,
          valley_gemm_has_bf16 () ? "yes" : "no");
  for (int i = 1; i < (argc > 1 ? argc : 3); i++) {
    guint threads = argc > 1 ? (guint) atoi (argv[i]) : (guint) i;

    printf ("%u thread%s\n", MAX (threads, 1), threads > 1 ? "s" : "");
    printf ("  %58s  %12s  %s\n", "", "by the clock", threads > 1 ? "" : "by time on a core");
    bench (MAX (threads, 1));
  }
  return 0;
}
