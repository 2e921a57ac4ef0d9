/* watch.h - for a build of the stand-in that sees every access that a kernel makes.
 *
 * Only the kernels are compiled with -fsanitize=thread; its runtime is not linked: watch.cpp
 * answers the calls that the compiler put before each access.  What is seen is counted
 * (count.cpp) and looked through for races of threads (race.cpp) and of streams (order.cpp).
 * Without EMU_WATCH nothing is told, and nothing costs (unwatched.h).
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "cuda_runtime.h"

#include <stddef.h>
#include <stdint.h>
#ifdef EMU_WATCH
#include <map>
#endif

enum EmuSpace { EMU_GLOBAL, EMU_SHARED };

struct EmuAccess {
  EmuSpace space;
  size_t offset; /* in the arena, or in the block's shared memory */
  size_t bytes;
  bool write, atomic;
};

/* One call of a library's routine, which runs no kernel that could be watched: a product of
 * [m, k] and [n, k]. */
struct EmuProduct {
  size_t m, n, k, element_bytes, out_bytes;
};

struct EmuLaunch;

#ifdef EMU_WATCH
/* What block.cpp tells. */
void emu_watch_kernel (const EmuLaunch &launch);
void emu_watch_block (uint64_t number, unsigned n_threads);
void emu_watch_block_barrier (void);
void emu_watch_warp_barrier (unsigned first, unsigned lanes);
void emu_watch_kernel_end (void);
/* What the stand-ins for libraries, atomics and tensor cores tell. */
void emu_watch_product (const EmuProduct &product);
void emu_watch_atomic (const void *p, size_t bytes);
void emu_watch_tensor_flops (uint64_t flops);
/* A copy in the background reads at its start (@from may be NULL) and writes from then until its
 * end, both told by the thread it belongs to. */
void emu_watch_copy_start (const void *to, const void *from, size_t bytes);
void emu_watch_copy_end (const void *to, size_t bytes);
/* What stream.cpp tells (order.cpp): who knows that which work has ended. */
struct EmuClock {
  std::map<uint32_t, uint32_t> ops; /* of each stream */
};
EmuClock emu_order_of_host (void);
EmuClock emu_order_of_stream (const void *stream);
void emu_order_stream_learns (const void *stream, const EmuClock &other);
void emu_order_host_learns (const EmuClock &other);
void emu_order_begin (const void *stream, const EmuClock &asked);
void emu_order_end (void);
void emu_order_forget (void);
/* A copy's, or a library's own. */
cudaError_t emu_order_range (const char *what, const void *p, size_t bytes, bool write);
/* Whether arithmetic that decides no address is to be left out: figures at full widths. */
bool emu_counts_only (void);
#define EMU_UNWATCHED __attribute__ ((noinline, no_sanitize_thread))
#else
#include "unwatched.h"
#endif

/* ---- between the watching files ---- */

/* The thread that runs now, of its block. */
extern unsigned emu_current_thread;
extern char *emu_arena;
size_t emu_arena_bytes (void);
unsigned char *emu_shared_memory (size_t *bytes);

void emu_count_kernel (const EmuLaunch &launch);
void emu_count_block (void);
void emu_count_access (const EmuAccess &access);
void emu_race_kernel (void);
void emu_race_block (uint64_t number, unsigned n_threads);
void emu_race_block_barrier (void);
void emu_race_warp_barrier (unsigned first, unsigned lanes);
/* @from: the code that does it. */
void emu_race_access (const EmuAccess &access, const void *from);
void emu_order_access (const EmuAccess &access);
bool emu_looks_for_races (void);
