/* kernels.c - which instruction set runs here.
 *
 * VALLEY_CPU=c|avx2|avx512|avx512_bf16 caps the choice, for tests and for comparing
 * machines; a name above what the machine has changes nothing.
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels.h"

#ifdef VALLEY_HAVE_X86
#include <cpuid.h>
#endif

#ifdef VALLEY_HAVE_X86
/* Not a word that every compiler's __builtin_cpu_supports knows. */
static gboolean
has_f16c (void)
{
  unsigned a, b, c, d;

  return __get_cpuid (1, &a, &b, &c, &d) && (c & bit_F16C) != 0;
}
#endif

gsize
valley_kernels_available (const ValleyKernels *tables[4])
{
  gsize n = 0;

  tables[n++] = &valley_kernels_c;
#ifdef VALLEY_HAVE_X86
  __builtin_cpu_init ();
  if (!__builtin_cpu_supports ("avx2") || !__builtin_cpu_supports ("fma")
      || !__builtin_cpu_supports ("bmi2") || !has_f16c ())
    return n;
  tables[n++] = &valley_kernels_avx2;
  if (!__builtin_cpu_supports ("avx512f") || !__builtin_cpu_supports ("avx512bw")
      || !__builtin_cpu_supports ("avx512dq") || !__builtin_cpu_supports ("avx512vl"))
    return n;
  tables[n++] = &valley_kernels_avx512;
#ifdef VALLEY_HAVE_AVX512BF16
  if (__builtin_cpu_supports ("avx512bf16"))
    tables[n++] = &valley_kernels_avx512_bf16;
#endif
#endif
  return n;
}

const ValleyKernels *
valley_kernels_get (void)
{
  static const char *const order[] = { "c", "avx2", "avx512", "avx512_bf16" };
  static gsize chosen; /* a pointer, as g_once_init_enter wants it */

  if (g_once_init_enter (&chosen)) {
    const ValleyKernels *tables[4];
    gsize n = valley_kernels_available (tables);
    const char *cap = g_getenv ("VALLEY_CPU");

    for (gsize i = 0; cap != NULL && i < G_N_ELEMENTS (order); i++)
      if (g_str_equal (cap, order[i]))
        n = MIN (n, i + 1);
    g_once_init_leave (&chosen, (gsize) tables[n - 1]);
  }
  return (const ValleyKernels *) chosen;
}
