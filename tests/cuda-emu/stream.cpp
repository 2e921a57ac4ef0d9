/* stream.cpp - streams as queues, events, graphs, copies, and the one sticky error.
 *
 * Nothing enqueued is done until somebody waits, or chance has it done; then streams take turns
 * at random.  So work that is ordered by luck only comes out wrong here sooner or later.
 * SPDX-License-Identifier: Apache-2.0 */
#include "emu_internal.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <set>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <vector>

#define MAX_THREADS_OF_BLOCK 1024u
#define MAX_GRID_YZ 65535u
#define MAX_DYNAMIC_SHARED ((size_t) 48 << 10) /* more must be asked for, which nobody does yet */

struct CUevent_st {
  CUctx_st *context;
  bool lets_sleep; /* who waits for it */
  uint64_t recorded, reached; /* how often */
  EmuClock clock;
};

struct Command {
  std::function<cudaError_t ()> work; /* empty: waits for an event */
  cudaEvent_t event;
  uint64_t count;
  EmuClock asked = {};
};

struct CUgraph_st {
  CUctx_st *context;
  std::vector<Command> commands;
};

struct CUgraphExec_st {
  CUctx_st *context;
  std::vector<Command> commands;
};

struct CUstream_st {
  CUctx_st *context;
  std::deque<Command> queue;
  std::unique_ptr<CUgraph_st> capture;
  bool capture_broken;
};

EmuMutex emu_lock;

void
EmuMutex::lock ()
{
  mutex.lock ();
  depth++;
}

void
EmuMutex::unlock ()
{
  if (--depth == 0)
    emu_memory_seal ();
  mutex.unlock ();
}
static std::set<cudaStream_t> streams;
static std::set<cudaEvent_t> events;
static std::set<cudaGraph_t> graphs;
static std::set<cudaGraphExec_t> execs;
static thread_local cudaError_t last, late; /* `late`: what only work found, for who waits */
static uint64_t fail_kernel_at, n_waits;
static std::string fault, taken, leaks;
static uint32_t seed, state;

typedef std::lock_guard<EmuMutex> Guard;

/* ---- chance ---- */

void
emu_set_seed (uint32_t new_seed)
{
  Guard guard (emu_lock);

  seed = state = new_seed != 0 ? new_seed : 1;
}

/* xorshift: any sequence will do, as long as the seed repeats it. */
uint32_t
emu_random (uint32_t below)
{
  if (state == 0) {
    const char *text = getenv ("VALLEY_TEST_SEED");

    emu_set_seed (text != NULL ? (uint32_t) strtoul (text, NULL, 10)
                               : (uint32_t) time (NULL) ^ (uint32_t) getpid () << 16);
  }
  state ^= state << 13;
  state ^= state >> 17;
  state ^= state << 5;
  return state % below;
}

/* ---- errors ---- */

template <typename T>
static size_t
count_of (const std::set<T> &all, const CUctx_st *context)
{
  size_t n = 0;

  for (T object : all)
    n += context == NULL || object->context == context;
  return n;
}

/* Of one context, or of all (NULL) */
static std::string
leaks_of (const CUctx_st *context)
{
  std::string words = emu_memory_leaks (context);

  if (count_of (streams, context) != 0)
    words += std::to_string (count_of (streams, context)) + " streams; ";
  if (count_of (events, context) != 0)
    words += std::to_string (count_of (events, context)) + " events; ";
  if (count_of (graphs, context) + count_of (execs, context) != 0)
    words += std::to_string (count_of (graphs, context) + count_of (execs, context)) + " graphs; ";
  return words;
}

static std::string
all_leaks (void)
{
  return leaks_of (NULL) + emu_contexts_left ();
}

std::string
emu_context_left (const CUctx_st *context)
{
  return leaks_of (context);
}

static void
judge_at_exit (void)
{
  std::string words = all_leaks ();

  if (fault.empty () && words.empty ())
    return;
  if (!fault.empty ())
    fprintf (stderr, "cuda-emu: a fault that nobody took: %s\n", fault.c_str ());
  if (!words.empty ())
    fprintf (stderr, "cuda-emu: never freed: %s\n", words.c_str ());
  fflush (NULL);
  _exit (86);
}

/* Registered while the program runs, so that it runs before static objects end. */
void
emu_watch_exit (void)
{
  static bool watched;

  if (!watched)
    atexit (judge_at_exit);
  watched = true;
}

cudaError_t
emu_fail (cudaError_t error, const char *format, ...)
{
  char words[500];
  va_list args;

  emu_watch_exit ();
  va_start (args, format);
  vsnprintf (words, sizeof words, format, args);
  va_end (args);
  if (fault.empty ())
    fault = std::string (words) + " (seed " + std::to_string (seed) + ")";
  if (error == cudaErrorIllegalAddress || error == cudaErrorMisalignedAddress
      || error == cudaErrorLaunchFailure)
    (emu_context_running != NULL ? emu_context_running : emu_context_current ())->sticky = error;
  else if (emu_context_running != NULL)
    late = error;
  return last = error;
}

cudaError_t
emu_set_last_error (cudaError_t error)
{
  return last = error;
}

/* What every call in this context answers. */
static cudaError_t
sticky (void)
{
  return emu_context_current ()->sticky;
}

const char *
emu_take_fault (void)
{
  Guard guard (emu_lock);

  taken = fault;
  fault.clear ();
  return taken.empty () ? NULL : taken.c_str ();
}

const char *
emu_leaks (void)
{
  Guard guard (emu_lock);

  leaks = all_leaks ();
  return leaks.empty () ? NULL : leaks.c_str ();
}

uint64_t
emu_kernels_run (void)
{
  return emu_n_kernels;
}

uint64_t
emu_stream_waits (void)
{
  return n_waits;
}

cudaError_t
cudaPeekAtLastError (void)
{
  return sticky () != cudaSuccess ? sticky () : last;
}

cudaError_t
cudaGetLastError (void)
{
  Guard guard (emu_lock);
  cudaError_t error = cudaPeekAtLastError ();

  last = cudaSuccess;
  return error;
}

const char *
cudaGetErrorName (cudaError_t error)
{
  switch (error) {
#define NAME(name)                                                                                 \
  case name:                                                                                       \
    return #name;
    NAME (cudaSuccess)
    NAME (cudaErrorInvalidValue)
    NAME (cudaErrorMemoryAllocation)
    NAME (cudaErrorInvalidConfiguration)
    NAME (cudaErrorInsufficientDriver)
    NAME (cudaErrorNoDevice)
    NAME (cudaErrorInvalidDevice)
    NAME (cudaErrorInvalidResourceHandle)
    NAME (cudaErrorNotReady)
    NAME (cudaErrorIllegalAddress)
    NAME (cudaErrorMisalignedAddress)
    NAME (cudaErrorLaunchFailure)
    NAME (cudaErrorNotSupported)
    NAME (cudaErrorStreamCaptureUnsupported)
    NAME (cudaErrorStreamCaptureInvalidated)
    NAME (cudaErrorUnknown)
#undef NAME
  }
  return "unrecognized error code";
}

/* ---- queues ---- */

static bool
is_ready (const CUstream_st *stream)
{
  const Command *head;

  if (stream->queue.empty ())
    return false;
  head = &stream->queue.front ();
  return head->work || stream->context->sticky != cudaSuccess
         || head->event->context->sticky != cudaSuccess || head->event->reached >= head->count;
}

/* One command of some stream; false when none can go on. */
static bool
run_one (void)
{
  std::vector<cudaStream_t> ready;
  cudaStream_t stream;
  Command command;

  for (cudaStream_t candidate : streams)
    if (is_ready (candidate))
      ready.push_back (candidate);
  if (ready.empty ())
    return false;
  stream = ready[emu_random ((uint32_t) ready.size ())];
  command = std::move (stream->queue.front ());
  stream->queue.pop_front ();
  emu_order_begin (stream, command.asked);
  emu_context_running = stream->context;
  if (command.work && stream->context->sticky == cudaSuccess)
    command.work ();
  else if (!command.work)
    emu_order_stream_learns (stream, command.event->clock);
  emu_context_running = NULL;
  emu_order_end ();
  return true;
}

static cudaError_t
answer_to_wait (void)
{
  cudaError_t error = sticky () != cudaSuccess ? sticky () : late;

  late = cudaSuccess;
  return error;
}

static cudaError_t
answer_to_query (bool done)
{
  return sticky () != cudaSuccess ? sticky () : done ? cudaSuccess : cudaErrorNotReady;
}

template <typename Done>
static void
run_until (Done done)
{
  while (!done ())
    if (!run_one ()) {
      emu_fail (cudaErrorLaunchFailure, "streams wait for one another");
      return;
    }
}

static bool
is_known (cudaStream_t stream)
{
  bool exists = streams.count (stream) != 0;

  if (exists && stream->context == emu_context_current ())
    return true;
  emu_fail (cudaErrorInvalidResourceHandle, "%s",
            stream == NULL ? "the default stream is not used: name a stream"
            : exists       ? "a stream of another context"
                           : "a stream that was destroyed or never made");
  return false;
}

static cudaError_t
enqueue (cudaStream_t stream, Command command)
{
  if (!is_known (stream))
    return cudaErrorInvalidResourceHandle;
  if (sticky () != cudaSuccess)
    return sticky ();
  if (stream->capture != NULL) {
    stream->capture->commands.push_back (std::move (command));
    return cudaSuccess;
  }
  command.asked = emu_order_of_host ();
  stream->queue.push_back (std::move (command));
  while (emu_random (4) == 0 && run_one ()) {
  }
  return cudaSuccess;
}

/* Waiting is not allowed while work is recorded. */
static bool
breaks_capture (cudaStream_t stream)
{
  if (stream->capture != NULL)
    stream->capture_broken = true;
  return stream->capture != NULL;
}

cudaError_t
cudaStreamCreateWithFlags (cudaStream_t *stream, unsigned flags)
{
  Guard guard (emu_lock);

  if (flags != cudaStreamNonBlocking)
    return emu_fail (cudaErrorInvalidValue, "streams must be cudaStreamNonBlocking");
  emu_watch_exit ();
  if (sticky () != cudaSuccess)
    return sticky ();
  if (emu_allocation_fails ())
    return emu_set_last_error (cudaErrorMemoryAllocation);
  *stream = new CUstream_st ();
  (*stream)->context = emu_context_current ();
  streams.insert (*stream);
  return cudaSuccess;
}

#define GREATEST_PRIORITY (-5)

cudaError_t
cudaDeviceGetStreamPriorityRange (int *least, int *greatest)
{
  Guard guard (emu_lock);

  *least = 0;
  *greatest = GREATEST_PRIORITY;
  return sticky ();
}

cudaError_t
cudaStreamCreateWithPriority (cudaStream_t *stream, unsigned flags, int priority)
{
  if (priority > 0 || priority < GREATEST_PRIORITY) {
    Guard guard (emu_lock);

    return emu_fail (cudaErrorInvalidValue, "no stream has priority %d", priority);
  }
  return cudaStreamCreateWithFlags (stream, flags);
}

cudaError_t
cudaStreamDestroy (cudaStream_t stream)
{
  Guard guard (emu_lock);

  if (!is_known (stream))
    return cudaErrorInvalidResourceHandle;
  run_until ([=] { return stream->queue.empty (); });
  emu_order_host_learns (emu_order_of_stream (stream));
  streams.erase (stream);
  delete stream;
  return cudaSuccess;
}

cudaError_t
cudaStreamSynchronize (cudaStream_t stream)
{
  Guard guard (emu_lock);

  if (!is_known (stream))
    return cudaErrorInvalidResourceHandle;
  if (breaks_capture (stream))
    return last = cudaErrorStreamCaptureUnsupported;
  n_waits++;
  run_until ([=] { return stream->queue.empty (); });
  emu_order_host_learns (emu_order_of_stream (stream));
  return answer_to_wait ();
}

cudaError_t
cudaStreamQuery (cudaStream_t stream)
{
  Guard guard (emu_lock);

  if (!is_known (stream))
    return cudaErrorInvalidResourceHandle;
  if (breaks_capture (stream))
    return last = cudaErrorStreamCaptureUnsupported;
  if (!stream->queue.empty ())
    run_one ();
  if (stream->queue.empty ())
    emu_order_host_learns (emu_order_of_stream (stream));
  return answer_to_query (stream->queue.empty ());
}

cudaError_t
cudaDeviceSynchronize (void)
{
  Guard guard (emu_lock);

  run_until ([] {
    for (cudaStream_t stream : streams)
      if (!stream->queue.empty () && stream->context == emu_context_current ())
        return false;
    return true;
  });
  for (cudaStream_t stream : streams)
    emu_order_host_learns (emu_order_of_stream (stream));
  return answer_to_wait ();
}

template <typename T>
static void
delete_of (std::set<T> *all, const CUctx_st *context)
{
  for (auto it = all->begin (); it != all->end ();)
    if ((*it)->context == context) {
      delete *it;
      it = all->erase (it);
    } else {
      it++;
    }
}

void
emu_context_reset (CUctx_st *context)
{
  delete_of (&streams, context);
  for (cudaStream_t stream : streams) /* nobody waits for what has gone */
    for (Command &command : stream->queue)
      if (!command.work && command.event->context == context)
        command.work = [] { return cudaSuccess; };
  delete_of (&events, context);
  delete_of (&graphs, context);
  delete_of (&execs, context);
  emu_memory_reset (context);
  context->sticky = cudaSuccess;
}

cudaError_t
cudaDeviceReset (void)
{
  Guard guard (emu_lock);

  emu_context_reset (emu_context_current ());
  emu_order_forget ();
  last = cudaSuccess;
  return cudaSuccess;
}

/* ---- work ---- */

void
emu_fail_kernel_at (uint64_t n)
{
  Guard guard (emu_lock);

  fail_kernel_at = n;
}

/* Whether this one is to end its context. */
static bool
kernel_fails (void)
{
  if (fail_kernel_at == 0 || --fail_kernel_at != 0)
    return false;
  emu_context_running->sticky = cudaErrorIllegalAddress;
  return true;
}

void
emu_enqueue_launch (const char *name, dim3 grid, dim3 block, size_t shared_bytes,
                    cudaStream_t stream, std::function<void ()> body)
{
  Guard guard (emu_lock);
  auto launch = std::make_shared<EmuLaunch> (
      EmuLaunch{ name, grid, block, shared_bytes, std::move (body) });

  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || block.x == 0 || block.y == 0 || block.z == 0
      || (uint64_t) block.x * block.y * block.z > MAX_THREADS_OF_BLOCK || grid.x > INT32_MAX
      || grid.y > MAX_GRID_YZ || grid.z > MAX_GRID_YZ || shared_bytes > MAX_DYNAMIC_SHARED)
    emu_fail (cudaErrorInvalidConfiguration,
              "kernel %s: %u x %u x %u blocks of %u x %u x %u threads, %zu bytes of dynamic shared "
              "memory",
              name, grid.x, grid.y, grid.z, block.x, block.y, block.z, shared_bytes);
  else
    enqueue (stream, { [=] { return kernel_fails () ? cudaSuccess : emu_run_kernel (*launch); },
                       NULL, 0 });
}

cudaError_t
emu_enqueue_work (cudaStream_t stream, std::function<cudaError_t ()> work)
{
  Guard guard (emu_lock);

  return enqueue (stream, { std::move (work), NULL, 0 });
}

/* Rows of bytes; the last one's rest of the pitch is not touched. */
struct Copy {
  char *dst;
  size_t dst_pitch;
  const char *src;
  size_t src_pitch, row_bytes, n_rows;
  cudaMemcpyKind kind;
};

static size_t largest_copy[cudaMemcpyDeviceToDevice + 1];

size_t
emu_take_largest_copy (int kind)
{
  Guard guard (emu_lock);
  size_t bytes = largest_copy[kind];

  largest_copy[kind] = 0;
  return bytes;
}

static const char *
copy_problem (const Copy &copy)
{
  const char *problem = NULL;

  if (copy.kind != cudaMemcpyHostToDevice)
    problem
        = emu_memory_range_problem (copy.src, (copy.n_rows - 1) * copy.src_pitch + copy.row_bytes);
  if (problem == NULL && copy.kind != cudaMemcpyDeviceToHost)
    problem
        = emu_memory_range_problem (copy.dst, (copy.n_rows - 1) * copy.dst_pitch + copy.row_bytes);
  return problem;
}

static cudaError_t
copy_now (const Copy &copy)
{
  const char *problem = copy_problem (copy);
  cudaError_t error = cudaSuccess;
  std::string damage;

  if (problem != NULL)
    return emu_fail (cudaErrorIllegalAddress, "copy: %s", problem);
  emu_memory_open ();
  for (size_t row = 0; row < copy.n_rows; row++)
    memmove (copy.dst + row * copy.dst_pitch, copy.src + row * copy.src_pitch, copy.row_bytes);
  emu_memory_close (&damage);
  for (size_t row = 0; error == cudaSuccess && row < copy.n_rows; row++) {
    error = emu_order_range ("copy", copy.src + row * copy.src_pitch, copy.row_bytes, false);
    if (error == cudaSuccess)
      error = emu_order_range ("copy", copy.dst + row * copy.dst_pitch, copy.row_bytes, true);
  }
  largest_copy[copy.kind] = std::max (largest_copy[copy.kind], copy.n_rows * copy.row_bytes);
  return error;
}

cudaError_t
cudaMemcpy2DAsync (void *dst, size_t dst_pitch, const void *src, size_t src_pitch, size_t row_bytes,
                   size_t n_rows, cudaMemcpyKind kind, cudaStream_t stream)
{
  Guard guard (emu_lock);
  size_t bytes = n_rows > 0 ? (n_rows - 1) * src_pitch + row_bytes : 0;
  Copy copy = { (char *) dst, dst_pitch, (const char *) src, src_pitch, row_bytes, n_rows, kind };
  std::shared_ptr<std::vector<char>> staged;

  if (bytes == 0 || row_bytes == 0 || !is_known (stream))
    return sticky ();
  /* a graph keeps the address and reads it at every launch */
  if (kind == cudaMemcpyHostToDevice && stream->capture == NULL
      && !emu_memory_is_pinned (src, bytes)) {
    staged = std::make_shared<std::vector<char>> (copy.src, copy.src + bytes);
    copy.src = staged->data ();
  }
  return enqueue (stream, { [copy, staged] { return copy_now (copy); }, NULL, 0 });
}

cudaError_t
cudaMemcpyAsync (void *dst, const void *src, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream)
{
  return cudaMemcpy2DAsync (dst, bytes, src, bytes, bytes, 1, kind, stream);
}

cudaError_t
cudaMemsetAsync (void *dst, int value, size_t bytes, cudaStream_t stream)
{
  Guard guard (emu_lock);
  auto fill = [=] {
    const char *problem = emu_memory_range_problem (dst, bytes);
    std::string damage;

    if (problem != NULL)
      return emu_fail (cudaErrorIllegalAddress, "memset: %s", problem);
    emu_memory_open ();
    memset (dst, value, bytes);
    emu_memory_close (&damage);
    return emu_order_range ("memset", dst, bytes, true);
  };

  return enqueue (stream, { fill, NULL, 0 });
}

cudaError_t
cudaLaunchHostFunc (cudaStream_t stream, void (*func) (void *), void *data)
{
  Guard guard (emu_lock);

  return enqueue (stream, { [=] {
                             emu_memory_seal (); /* this is the host's */
                             func (data);
                             return cudaSuccess;
                           },
                            NULL, 0 });
}

/* ---- events ---- */

static bool
is_known_event (cudaEvent_t event)
{
  if (events.count (event) != 0)
    return true;
  emu_fail (cudaErrorInvalidResourceHandle, "an event that was destroyed or never made");
  return false;
}

static void
run_until_reached (cudaEvent_t event)
{
  run_until ([=] {
    return event->reached >= event->recorded || event->context->sticky != cudaSuccess;
  });
}

cudaError_t
cudaEventCreateWithFlags (cudaEvent_t *event, unsigned flags)
{
  Guard guard (emu_lock);

  if ((flags & ~cudaEventBlockingSync) != cudaEventDisableTiming)
    return emu_fail (cudaErrorInvalidValue, "events must be cudaEventDisableTiming: there is no "
                                            "time here");
  if (sticky () != cudaSuccess)
    return sticky ();
  if (emu_allocation_fails ())
    return emu_set_last_error (cudaErrorMemoryAllocation);
  *event = new CUevent_st ();
  (*event)->context = emu_context_current ();
  (*event)->lets_sleep = (flags & cudaEventBlockingSync) != 0;
  events.insert (*event);
  return cudaSuccess;
}

cudaError_t
cudaEventDestroy (cudaEvent_t event)
{
  Guard guard (emu_lock);

  if (!is_known_event (event))
    return cudaErrorInvalidResourceHandle;
  run_until_reached (event);
  for (cudaStream_t stream : streams) /* and whoever waits for it has seen it */
    for (Command &command : stream->queue)
      if (!command.work && command.event == event)
        command.work = [stream, clock = event->clock] {
          emu_order_stream_learns (stream, clock);
          return cudaSuccess;
        };
  events.erase (event);
  delete event;
  return cudaSuccess;
}

cudaError_t
cudaEventRecord (cudaEvent_t event, cudaStream_t stream)
{
  Guard guard (emu_lock);
  uint64_t count;

  if (!is_known_event (event) || !is_known (stream))
    return cudaErrorInvalidResourceHandle;
  if (breaks_capture (stream))
    return emu_fail (cudaErrorStreamCaptureUnsupported, "an event recorded in a captured stream");
  count = ++event->recorded;
  return enqueue (stream, { [=] {
                             event->reached = count;
                             event->clock = emu_order_of_stream (stream);
                             return cudaSuccess;
                           },
                            NULL, 0 });
}

cudaError_t
cudaStreamWaitEvent (cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
  Guard guard (emu_lock);

  if (!is_known_event (event) || !is_known (stream))
    return cudaErrorInvalidResourceHandle;
  if (breaks_capture (stream))
    return emu_fail (cudaErrorStreamCaptureUnsupported, "a captured stream waits for an event");
  return enqueue (stream, { {}, event, event->recorded });
}

cudaError_t
cudaEventSynchronize (cudaEvent_t event)
{
  Guard guard (emu_lock);

  if (!is_known_event (event))
    return cudaErrorInvalidResourceHandle;
  if (!event->lets_sleep)
    return emu_fail (cudaErrorInvalidValue, "the host would spin: the event is not "
                                            "cudaEventBlockingSync");
  run_until_reached (event);
  emu_order_host_learns (event->clock);
  return answer_to_wait ();
}

cudaError_t
cudaEventQuery (cudaEvent_t event)
{
  Guard guard (emu_lock);

  if (!is_known_event (event))
    return cudaErrorInvalidResourceHandle;
  if (event->reached < event->recorded)
    run_one ();
  if (event->reached >= event->recorded)
    emu_order_host_learns (event->clock);
  return answer_to_query (event->reached >= event->recorded);
}

/* ---- graphs ---- */

cudaError_t
cudaStreamBeginCapture (cudaStream_t stream, cudaStreamCaptureMode mode)
{
  Guard guard (emu_lock);

  if (!is_known (stream))
    return cudaErrorInvalidResourceHandle;
  if (stream->capture != NULL)
    return emu_fail (cudaErrorInvalidValue, "the stream is captured already");
  if (emu_allocation_fails ())
    return emu_set_last_error (cudaErrorMemoryAllocation);
  stream->capture.reset (new CUgraph_st ());
  stream->capture->context = stream->context;
  stream->capture_broken = false;
  return cudaSuccess;
}

cudaError_t
cudaStreamIsCapturing (cudaStream_t stream, cudaStreamCaptureStatus *status)
{
  Guard guard (emu_lock);

  if (!is_known (stream))
    return cudaErrorInvalidResourceHandle;
  *status = stream->capture == NULL    ? cudaStreamCaptureStatusNone
            : stream->capture_broken ? cudaStreamCaptureStatusInvalidated
                                     : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}

cudaError_t
cudaStreamEndCapture (cudaStream_t stream, cudaGraph_t *graph)
{
  Guard guard (emu_lock);

  *graph = NULL;
  if (!is_known (stream))
    return cudaErrorInvalidResourceHandle;
  if (stream->capture == NULL)
    return emu_fail (cudaErrorInvalidValue, "the stream is not captured");
  if (stream->capture_broken) {
    stream->capture.reset ();
    return last = cudaErrorStreamCaptureInvalidated;
  }
  *graph = stream->capture.release ();
  graphs.insert (*graph);
  return cudaSuccess;
}

cudaError_t
cudaGraphInstantiate (cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags)
{
  Guard guard (emu_lock);

  if (graphs.count (graph) == 0)
    return emu_fail (cudaErrorInvalidValue, "a graph that was destroyed or never made");
  if (emu_allocation_fails ())
    return emu_set_last_error (cudaErrorMemoryAllocation);
  *exec = new CUgraphExec_st{ graph->context, graph->commands };
  execs.insert (*exec);
  return cudaSuccess;
}

cudaError_t
cudaGraphLaunch (cudaGraphExec_t exec, cudaStream_t stream)
{
  Guard guard (emu_lock);
  cudaError_t error = cudaSuccess;

  if (execs.count (exec) == 0)
    return emu_fail (cudaErrorInvalidValue, "a graph that was destroyed or never made");
  for (const Command &command : exec->commands)
    if (error == cudaSuccess)
      error = enqueue (stream, command);
  return error;
}

cudaError_t
cudaGraphDestroy (cudaGraph_t graph)
{
  Guard guard (emu_lock);

  if (graphs.erase (graph) == 0)
    return emu_fail (cudaErrorInvalidValue, "a graph that was destroyed or never made");
  delete graph;
  return cudaSuccess;
}

cudaError_t
cudaGraphExecDestroy (cudaGraphExec_t exec)
{
  Guard guard (emu_lock);

  if (execs.erase (exec) == 0)
    return emu_fail (cudaErrorInvalidValue, "a graph that was destroyed or never made");
  delete exec;
  return cudaSuccess;
}
