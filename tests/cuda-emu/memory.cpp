/* memory.cpp - the device's memory: pages that only kernels and copies can touch.
 *
 * Every allocation has addresses of its own, never used again, between pages that are never
 * accessible, and starts out as NaN.  It ends as close before its guard page as CUDA's alignment
 * of 256 bytes allows; what is left around it is checked after every kernel.
 * SPDX-License-Identifier: Apache-2.0 */
#include "emu_internal.h"

#include <algorithm>
#include <map>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>
#include <vector>

#define PAGE ((size_t) 4096)
#define ALIGNMENT ((size_t) 256)
#define ARENA_BYTES ((size_t) 64 << 30)
#define POISON 0xff

struct Allocation {
  unsigned number;
  CUctx_st *context;
  char *pages, *data;
  size_t bytes, page_bytes;
  bool freed, is_open;
};

char *emu_arena;
static size_t arena_used, bytes_limit = (size_t) 1 << 30;
static std::map<int, size_t> bytes_live; /* by device */
static uint64_t fail_at;
static unsigned n_allocations;
/* by first page; freed ones stay, so that a late access can be told whose it was */
static std::map<char *, Allocation> allocations;
/* Whose memory may be open, or NULL; which of it is; and whether this thread works on it now.
 * Memory stays open from kernel to kernel: closing takes longer than most of them. */
static const CUctx_st *open_context;
static std::vector<Allocation *> open_allocations;
static thread_local bool at_work;
struct Pinned {
  size_t bytes;
  CUctx_st *context;
};
static std::map<char *, Pinned> pinned;

size_t
emu_arena_bytes (void)
{
  return ARENA_BYTES;
}

static size_t
round_up (size_t n, size_t to)
{
  return (n + to - 1) / to * to;
}

static std::string
name_of (const Allocation &a)
{
  return "allocation " + std::to_string (a.number) + " of " + std::to_string (a.bytes) + " bytes";
}

static const Allocation *
find (const void *address)
{
  auto next = allocations.upper_bound ((char *) address);

  return next == allocations.begin () ? NULL : &std::prev (next)->second;
}

/* Whether the work that runs may touch it. */
static bool
is_ours (const Allocation &a)
{
  return a.context == (emu_context_running != NULL ? emu_context_running : emu_context_current ());
}

bool
emu_memory_describe (const void *address, std::string *words)
{
  const char *p = (const char *) address;
  const Allocation *a;

  if (emu_arena == NULL || p < emu_arena || p >= emu_arena + ARENA_BYTES)
    return false;
  a = find (p);
  if (a == NULL)
    *words = "before the first allocation";
  else if (p >= a->data + a->bytes)
    *words = std::to_string (p - (a->data + a->bytes)) + " bytes past the end of " + name_of (*a)
             + (a->freed ? ", which was freed" : "");
  else
    *words = "byte " + std::to_string (p - a->data) + " of " + name_of (*a)
             + (a->freed ? ", which was freed" : "");
  return true;
}

const char *
emu_memory_range_problem (const void *pointer, size_t bytes)
{
  static std::string words;
  const char *p = (const char *) pointer;
  const Allocation *a = find (p);

  if (a != NULL && !a->freed && is_ours (*a) && p >= a->data && p <= a->data + a->bytes
      && bytes <= (size_t) (a->data + a->bytes - p))
    return NULL;
  if (!emu_memory_describe (p, &words))
    words = "no address of the device";
  else if (!is_ours (*a))
    words += ", of another context";
  words = std::to_string (bytes) + " bytes from " + words;
  return words.c_str ();
}

/* ---- faults ---- */

static bool
is_write (const ucontext_t *context)
{
#ifdef __x86_64__
  return context->uc_mcontext.gregs[REG_ERR] & 2;
#else
  return false;
#endif
}

/* In a buffer, because a kernel's stack is left without running destructors. */
static bool
describe_fault (char *words, size_t n, const void *address, const void *context)
{
  std::string where;
  bool ours = emu_memory_describe (address, &where);

  snprintf (words, n, "illegal address: %s%s",
            is_write ((const ucontext_t *) context) ? "write to " : "",
            ours ? where.c_str () : "not the device's");
  return ours;
}

/* A kernel or a copy opens what it touches: a model has hundreds of allocations, a kernel touches
 * a few, and opening all of them took longer than all kernels did. */
static bool
open_at (const void *address)
{
  const char *p = (const char *) address;
  Allocation *a;

  if (!at_work || emu_arena == NULL || p < emu_arena || p >= emu_arena + ARENA_BYTES)
    return false;
  a = (Allocation *) find (p);
  if (a == NULL || a->freed || a->is_open || a->context != open_context
      || p >= a->pages + a->page_bytes
      || mprotect (a->pages, a->page_bytes, PROT_READ | PROT_WRITE) != 0)
    return false;
  a->is_open = true;
  open_allocations.push_back (a);
  return true;
}

static void
on_fault (int signal_number, siginfo_t *info, void *context)
{
  char words[200];
  bool ours;

  if (open_at (info->si_addr))
    return; /* and the access happens again */
  ours = describe_fault (words, sizeof words, info->si_addr, context);
  if (emu_fiber_is_running ()) /* a null pointer is the kernel's fault, too */
    emu_kernel_trap (cudaErrorIllegalAddress, words);
  if (ours) {
    fprintf (stderr, "cuda-emu: the host touched device memory: %s\n", words);
    abort ();
  }
  signal (signal_number, SIG_DFL); /* happens again, to whoever did it */
}

/* A thread's stack for the handler; what it had before comes back when it ends, as a sanitizer
 * wants to free that. */
struct HandlerStack {
  alignas (64) char stack[64 << 10]; /* so aligned for the address sanitizer */
  stack_t before;

  HandlerStack (void)
  {
    stack_t own = {};

    own.ss_sp = stack;
    own.ss_size = sizeof stack;
    sigaltstack (&own, &before);
  }
  ~HandlerStack (void) { sigaltstack (&before, NULL); }
};

/* Each time: GStreamer, when it has loaded a plugin, puts back the handler of before. */
static void
catch_faults (void)
{
  static thread_local HandlerStack stack;
  struct sigaction action = {};

  action.sa_sigaction = on_fault;
  /* NODEFER: the handler may be left for good */
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigaction (SIGSEGV, &action, NULL);
  sigaction (SIGBUS, &action, NULL);
}

/* ---- between host and kernels ---- */

static void
close_again (Allocation *a)
{
  mprotect (a->pages, a->page_bytes, PROT_NONE);
  a->is_open = false;
}

void
emu_memory_seal (void)
{
  for (Allocation *a : open_allocations)
    close_again (a);
  open_allocations.clear ();
  open_context = NULL;
}

/* From here to emu_memory_close, what this thread touches is opened (on_fault). */
void
emu_memory_open (void)
{
  const CUctx_st *context
      = emu_context_running != NULL ? emu_context_running : emu_context_current ();

  catch_faults ();
  if (open_context != context)
    emu_memory_seal ();
  open_context = context;
  at_work = true;
}

/* Asked after every kernel, of everything open: in strides, not byte by byte. */
static bool
is_poison (const char *p, size_t n)
{
  return n == 0 || ((unsigned char) *p == POISON && memcmp (p, p + 1, n - 1) == 0);
}

static bool
check_around (const Allocation &a, std::string *damage)
{
  const char *end = a.data + a.bytes;

  if (is_poison (a.pages, (size_t) (a.data - a.pages))
      && is_poison (end, (size_t) (a.pages + a.page_bytes - end)))
    return true;
  for (char *p = a.pages; p < a.pages + a.page_bytes; p++) {
    if (p == a.data)
      p += a.bytes;
    if (p < a.pages + a.page_bytes && (unsigned char) *p != POISON) {
      *damage = p < a.data ? std::to_string (a.data - p) + " bytes before the start of "
                           : std::to_string (p - (a.data + a.bytes)) + " bytes past the end of ";
      *damage = "something was written " + *damage + name_of (a);
      memset (a.pages, POISON, (size_t) (a.data - a.pages));
      memset (a.data + a.bytes, POISON, (size_t) (a.pages + a.page_bytes - a.data) - a.bytes);
      return false;
    }
  }
  return true;
}

bool
emu_memory_close (std::string *damage)
{
  bool good = true;

  at_work = false;
  for (const Allocation *a : open_allocations)
    good = check_around (*a, damage) && good;
  return good;
}

/* ---- the runtime's calls ---- */

void
emu_fail_allocation_at (uint64_t n)
{
  std::lock_guard<EmuMutex> guard (emu_lock);

  fail_at = n;
}

bool
emu_allocation_fails (void)
{
  return fail_at != 0 && --fail_at == 0;
}

cudaError_t
cudaMalloc (void **pointer, size_t bytes)
{
  std::lock_guard<EmuMutex> guard (emu_lock);
  size_t page_bytes;
  Allocation a = {};

  CUctx_st *context = emu_context_current ();
  size_t &live = bytes_live[context->device];

  *pointer = NULL;
  if (context->sticky != cudaSuccess)
    return context->sticky;
  if (bytes == 0)
    return cudaSuccess;
  emu_watch_exit ();
  catch_faults ();
  if (emu_arena == NULL) {
    void *map
        = mmap (NULL, ARENA_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (map == MAP_FAILED)
      return emu_set_last_error (cudaErrorMemoryAllocation);
    emu_arena = (char *) map;
    arena_used = PAGE;
  }
  if (live > bytes_limit || bytes > bytes_limit - live
      || bytes > ARENA_BYTES - arena_used - 2 * PAGE || emu_allocation_fails ())
    return emu_set_last_error (cudaErrorMemoryAllocation);
  page_bytes = round_up (bytes, PAGE);
  a.number = ++n_allocations;
  a.context = context;
  a.pages = emu_arena + arena_used;
  a.page_bytes = page_bytes;
  a.bytes = bytes;
  a.data = a.pages + page_bytes - round_up (bytes, ALIGNMENT);
  mprotect (a.pages, page_bytes, PROT_READ | PROT_WRITE);
  memset (a.pages, POISON, page_bytes);
  mprotect (a.pages, page_bytes, PROT_NONE);
  arena_used += page_bytes + PAGE;
  live += bytes;
  allocations[a.pages] = a;
  *pointer = a.data;
  return cudaSuccess;
}

static void
release (Allocation *a)
{
  auto open = std::find (open_allocations.begin (), open_allocations.end (), a);

  a->freed = true;
  bytes_live[a->context->device] -= a->bytes;
  if (open != open_allocations.end ())
    open_allocations.erase (open);
  close_again (a);
  madvise (a->pages, a->page_bytes, MADV_DONTNEED);
}

cudaError_t
cudaFree (void *pointer)
{
  std::lock_guard<EmuMutex> guard (emu_lock);
  auto *a = (Allocation *) (pointer != NULL ? find (pointer) : NULL);

  if (pointer == NULL)
    return cudaSuccess;
  if (a == NULL || a->data != pointer || a->freed)
    return emu_fail (cudaErrorInvalidValue, "cudaFree: %s",
                     a != NULL && a->data == pointer ? (name_of (*a) + " was freed before").c_str ()
                                                     : "no allocation begins there");
  release (a);
  return cudaSuccess;
}

cudaError_t
cudaMallocHost (void **pointer, size_t bytes)
{
  std::lock_guard<EmuMutex> guard (emu_lock);

  emu_watch_exit ();
  *pointer = NULL;
  if (emu_context_current ()->sticky != cudaSuccess)
    return emu_context_current ()->sticky;
  if (!emu_allocation_fails ())
    *pointer = aligned_alloc (PAGE, round_up (bytes > 0 ? bytes : 1, PAGE));
  if (*pointer == NULL)
    return emu_set_last_error (cudaErrorMemoryAllocation);
  memset (*pointer, POISON, bytes);
  pinned[(char *) *pointer] = { bytes, emu_context_current () };
  return cudaSuccess;
}

cudaError_t
cudaFreeHost (void *pointer)
{
  std::lock_guard<EmuMutex> guard (emu_lock);

  if (pointer == NULL)
    return cudaSuccess;
  if (pinned.erase ((char *) pointer) == 0)
    return emu_fail (cudaErrorInvalidValue, "cudaFreeHost: not pinned memory, or freed before");
  free (pointer);
  return cudaSuccess;
}

bool
emu_memory_is_pinned (const void *pointer, size_t bytes)
{
  const char *p = (const char *) pointer;
  auto next = pinned.upper_bound ((char *) pointer);

  if (next == pinned.begin ())
    return false;
  next--;
  return p <= next->first + next->second.bytes
         && bytes <= (size_t) (next->first + next->second.bytes - p);
}

cudaError_t
cudaMemGetInfo (size_t *available, size_t *total)
{
  std::lock_guard<EmuMutex> guard (emu_lock);

  *available = bytes_limit - std::min (bytes_limit, bytes_live[emu_context_current ()->device]);
  *total = bytes_limit;
  return cudaSuccess;
}

void
emu_set_device_bytes (size_t bytes)
{
  std::lock_guard<EmuMutex> guard (emu_lock);

  bytes_limit = bytes;
}

static bool
belongs (const CUctx_st *owner, const CUctx_st *context)
{
  return context == NULL || owner == context;
}

std::string
emu_memory_leaks (const CUctx_st *context)
{
  std::string words;

  for (auto &it : allocations)
    if (!it.second.freed && belongs (it.second.context, context))
      words += name_of (it.second) + "; ";
  for (auto &it : pinned)
    if (belongs (it.second.context, context))
      words += std::to_string (it.second.bytes) + " pinned bytes; ";
  return words;
}

void
emu_memory_reset (const CUctx_st *context)
{
  for (auto &it : allocations)
    if (!it.second.freed && it.second.context == context)
      release (&it.second);
  for (auto it = pinned.begin (); it != pinned.end ();)
    if (it->second.context == context) {
      free (it->first);
      it = pinned.erase (it);
    } else {
      it++;
    }
}
