/* watch.cpp - the calls that -fsanitize=thread puts before every access, answered without its
 * runtime: what touches the device's memory is passed on.
 * SPDX-License-Identifier: Apache-2.0 */
#include "emu_internal.h"
#include "watch.h"

#include <stdlib.h>

/* What tests ask for; a program that only names a wing says it in the environment. */
static bool races = getenv ("VALLEY_EMU_RACES") != NULL;
static bool counting = getenv ("VALLEY_EMU_COUNTS") != NULL;
static bool counts_only = getenv ("VALLEY_EMU_COUNTS_ONLY") != NULL;

void
emu_watch (bool for_races, bool for_counts)
{
  races = for_races;
  counting = for_counts;
}

bool
emu_counts_only (void)
{
  return counts_only;
}

bool
emu_looks_for_races (void)
{
  return races;
}

void
emu_watch_kernel (const EmuLaunch &launch)
{
  if (counting)
    emu_count_kernel (launch);
  if (races)
    emu_race_kernel ();
}

void
emu_watch_block (uint64_t number, unsigned n_threads)
{
  if (counting)
    emu_count_block ();
  if (races)
    emu_race_block (number, n_threads);
}

void
emu_watch_block_barrier (void)
{
  if (races)
    emu_race_block_barrier ();
}

void
emu_watch_warp_barrier (unsigned first, unsigned lanes)
{
  if (races)
    emu_race_warp_barrier (first, lanes);
}

/* ---- accesses ---- */

static void
pass_on (const EmuAccess &access, const void *from)
{
  if (counting)
    emu_count_access (access);
  if (races)
    emu_race_access (access, from);
  if (races && access.space == EMU_GLOBAL)
    emu_order_access (access);
}

static inline void
see (const void *p, size_t bytes, bool write, bool atomic, const void *from)
{
  size_t n_shared;
  size_t in_shared, in_arena = (size_t) ((const char *) p - emu_arena);

  if (!emu_fiber_is_running ()) /* the host's own: it may not touch the device's memory */
    return;
  if (emu_arena != NULL && in_arena < emu_arena_bytes ()) {
    pass_on ({ EMU_GLOBAL, in_arena, bytes, write, atomic }, from);
    return;
  }
  in_shared = (size_t) ((const unsigned char *) p - emu_shared_memory (&n_shared));
  if (in_shared < n_shared)
    pass_on ({ EMU_SHARED, in_shared, bytes, write, atomic }, from);
}

void
emu_watch_atomic (const void *p, size_t bytes)
{
  see (p, bytes, true, true, __builtin_return_address (0));
}

void
emu_watch_copy_start (const void *to, const void *from, size_t bytes)
{
  if (from != NULL)
    see (from, bytes, false, false, __builtin_return_address (0));
  see (to, bytes, true, false, __builtin_return_address (0));
}

/* Not counted again. */
void
emu_watch_copy_end (const void *to, size_t bytes)
{
  size_t n_shared;
  size_t in_shared = (size_t) ((const unsigned char *) to - emu_shared_memory (&n_shared));

  if (races && in_shared < n_shared)
    emu_race_access ({ EMU_SHARED, in_shared, bytes, true, false }, __builtin_return_address (0));
}

/* The names are the compiler's. */
#pragma GCC diagnostic ignored "-Wmissing-declarations"
#define FROM __builtin_return_address (0)

extern "C" {
#define SIZES(bytes)                                                                               \
  void __tsan_read##bytes (void *p) { see (p, bytes, false, false, FROM); }                        \
  void __tsan_write##bytes (void *p) { see (p, bytes, true, false, FROM); }                        \
  void __tsan_unaligned_read##bytes (void *p) { see (p, bytes, false, false, FROM); }              \
  void __tsan_unaligned_write##bytes (void *p) { see (p, bytes, true, false, FROM); }              \
  void __tsan_read##bytes##_pc (void *p, void *pc) { see (p, bytes, false, false, pc); }           \
  void __tsan_write##bytes##_pc (void *p, void *pc) { see (p, bytes, true, false, pc); }           \
  void __tsan_volatile_read##bytes (void *p) { see (p, bytes, false, false, FROM); }               \
  void __tsan_volatile_write##bytes (void *p) { see (p, bytes, true, false, FROM); }
SIZES (1)
SIZES (2)
SIZES (4)
SIZES (8)
SIZES (16)

void
__tsan_read_range (void *p, size_t bytes)
{
  see (p, bytes, false, false, FROM);
}

void
__tsan_write_range (void *p, size_t bytes)
{
  see (p, bytes, true, false, FROM);
}

void *
__tsan_memcpy (void *to, const void *from, size_t bytes)
{
  see (from, bytes, false, false, FROM);
  see (to, bytes, true, false, FROM);
  return memcpy (to, from, bytes);
}

void *
__tsan_memmove (void *to, const void *from, size_t bytes)
{
  see (from, bytes, false, false, FROM);
  see (to, bytes, true, false, FROM);
  return memmove (to, from, bytes);
}

void *
__tsan_memset (void *to, int value, size_t bytes)
{
  see (to, bytes, true, false, FROM);
  return memset (to, value, bytes);
}

void
__tsan_init (void)
{
}

void
__tsan_func_entry (void *)
{
}

void
__tsan_func_exit (void)
{
}

void
__tsan_vptr_read (void **)
{
}

void
__tsan_vptr_update (void **, void *)
{
}

/* The wing's host code counts references with these. */
#define ATOMICS(bits)                                                                              \
  uint##bits##_t __tsan_atomic##bits##_load (const volatile uint##bits##_t *p, int)                \
  {                                                                                                \
    return __atomic_load_n (p, __ATOMIC_SEQ_CST);                                                  \
  }                                                                                                \
  void __tsan_atomic##bits##_store (volatile uint##bits##_t *p, uint##bits##_t value, int)         \
  {                                                                                                \
    __atomic_store_n (p, value, __ATOMIC_SEQ_CST);                                                 \
  }                                                                                                \
  uint##bits##_t __tsan_atomic##bits##_exchange (volatile uint##bits##_t *p, uint##bits##_t value, \
                                                 int)                                              \
  {                                                                                                \
    return __atomic_exchange_n (p, value, __ATOMIC_SEQ_CST);                                       \
  }                                                                                                \
  uint##bits##_t __tsan_atomic##bits##_fetch_add (volatile uint##bits##_t *p,                      \
                                                  uint##bits##_t value, int)                       \
  {                                                                                                \
    return __atomic_fetch_add (p, value, __ATOMIC_SEQ_CST);                                        \
  }                                                                                                \
  uint##bits##_t __tsan_atomic##bits##_fetch_sub (volatile uint##bits##_t *p,                      \
                                                  uint##bits##_t value, int)                       \
  {                                                                                                \
    return __atomic_fetch_sub (p, value, __ATOMIC_SEQ_CST);                                        \
  }                                                                                                \
  uint##bits##_t __tsan_atomic##bits##_fetch_or (volatile uint##bits##_t *p, uint##bits##_t value, \
                                                 int)                                              \
  {                                                                                                \
    return __atomic_fetch_or (p, value, __ATOMIC_SEQ_CST);                                         \
  }                                                                                                \
  uint##bits##_t __tsan_atomic##bits##_fetch_and (volatile uint##bits##_t *p,                      \
                                                  uint##bits##_t value, int)                       \
  {                                                                                                \
    return __atomic_fetch_and (p, value, __ATOMIC_SEQ_CST);                                        \
  }                                                                                                \
  int __tsan_atomic##bits##_compare_exchange_strong (                                              \
      volatile uint##bits##_t *p, uint##bits##_t *expected, uint##bits##_t value, int, int)        \
  {                                                                                                \
    return __atomic_compare_exchange_n (p, expected, value, false, __ATOMIC_SEQ_CST,               \
                                        __ATOMIC_SEQ_CST);                                         \
  }                                                                                                \
  int __tsan_atomic##bits##_compare_exchange_weak (                                                \
      volatile uint##bits##_t *p, uint##bits##_t *expected, uint##bits##_t value, int, int)        \
  {                                                                                                \
    return __atomic_compare_exchange_n (p, expected, value, true, __ATOMIC_SEQ_CST,                \
                                        __ATOMIC_SEQ_CST);                                         \
  }                                                                                                \
  uint##bits##_t __tsan_atomic##bits##_compare_exchange_val (                                      \
      volatile uint##bits##_t *p, uint##bits##_t expected, uint##bits##_t value, int, int)         \
  {                                                                                                \
    __atomic_compare_exchange_n (p, &expected, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);  \
    return expected;                                                                               \
  }
ATOMICS (8)
ATOMICS (32)
ATOMICS (64)

void
__tsan_atomic_thread_fence (int)
{
  __atomic_thread_fence (__ATOMIC_SEQ_CST);
}
}
