/* emu_internal.h - between the stand-in's own files.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "emu.h"
#include "emu_device.h"
#include "watch.h"

#include <mutex>
#include <string>

/* One lock for the whole device: sessions are threads, the device is one.  Who lets go of it goes
 * back to the host, which must not touch the device's memory. */
class EmuMutex {
public:
  void lock ();
  void unlock ();

private:
  std::recursive_mutex mutex;
  unsigned depth = 0;
};
extern EmuMutex emu_lock;

/* ---- context.cpp ---- */

struct CUctx_st {
  int device;
  cudaError_t sticky;
};

/* The thread's; at first the first device's own. */
CUctx_st *emu_context_current (void);
/* While work of a stream is done: its context. */
extern CUctx_st *emu_context_running;
/* Contexts that were made and not destroyed, in words. */
std::string emu_contexts_left (void);

/* ---- stream.cpp ---- */

/* What of a context's was not freed, in words; and all of it goes. */
std::string emu_context_left (const CUctx_st *context);
void emu_context_reset (CUctx_st *context);

/* Records a fault and makes @error sticky. */
cudaError_t emu_fail (cudaError_t error, const char *format, ...)
    __attribute__ ((format (printf, 2, 3)));
/* Work like a kernel: in its stream's order, late, part of a graph while one is captured. */
cudaError_t emu_enqueue_work (cudaStream_t stream, std::function<cudaError_t ()> work);
/* What cudaGetLastError answers next. */
cudaError_t emu_set_last_error (cudaError_t error);
/* Whatever is left over when the program ends is told then. */
void emu_watch_exit (void);
uint32_t emu_random (uint32_t below);
extern uint64_t emu_n_kernels;

/* ---- fiber.cpp: one stack for every thread of a block ---- */

void emu_fiber_start (unsigned index, void (*entry) (void));
/* From the scheduler into a fiber, until it pauses. */
void emu_fiber_run (unsigned index);
/* From a fiber back to the scheduler. */
void emu_fiber_pause (void);
/* The same for good; also from a signal handler. */
[[noreturn]] void emu_fiber_quit (void);
bool emu_fiber_is_running (void);

/* ---- memory.cpp ---- */

void emu_memory_init (void);
/* Kernels may touch every allocation of the running context between these two; the second checks
 * what lies around them and says in words what was written there. */
void emu_memory_open (void);
bool emu_memory_close (std::string *damage);
/* Nobody may touch any of it. */
void emu_memory_seal (void);
/* Whether this allocation is the one that has to fail. */
bool emu_allocation_fails (void);
/* NULL when the whole range is one allocation's, else what is wrong with it. */
const char *emu_memory_range_problem (const void *pointer, size_t bytes);
/* Where @address lies, in words, when it is the device's. */
bool emu_memory_describe (const void *address, std::string *words);
bool emu_memory_is_pinned (const void *pointer, size_t bytes);
/* Of one context, or of all (NULL) */
std::string emu_memory_leaks (const CUctx_st *context);
void emu_memory_reset (const CUctx_st *context);

/* ---- async.cpp ---- */

void emu_async_start_block (size_t n_threads);
/* A fault when copies are still under way. */
void emu_async_end_thread (void);

/* ---- block.cpp ---- */

struct EmuLaunch {
  const char *name;
  dim3 grid, block;
  size_t shared_bytes;
  std::function<void ()> body;
};

cudaError_t emu_run_kernel (const EmuLaunch &launch);
/* Only while a kernel runs: ends it, from a fiber or from the handler of a fault on one. */
[[noreturn]] void emu_kernel_trap (cudaError_t error, const char *words);
