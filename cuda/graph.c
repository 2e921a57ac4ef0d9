/* graph.c - operations recorded once and run again as one.
 *
 * A graph holds addresses.  Memory that an operation takes and frees again while it is recorded
 * stays with the graph; what the caller gave stays the caller's, who frees the graph first.
 *
 * The caller may run the operations directly instead, so failing to record is no error of the
 * stream's; an operation's own failure is.
 * SPDX-License-Identifier: Apache-2.0 */
#include "gpu.h"

struct _ValleyGraph {
  ValleyGpuClock *clock; /* of the stream that it was recorded in, the only one that it runs in */
  cudaGraphExec_t exec;
  GQueue memory;
};

gboolean
valley_gpu_graph_begin (ValleyStream *stream)
{
  ValleyGpuClock *clock = valley_gpu_stream (stream)->clock;
  int error;

  if (!valley_gpu_begin (stream, NULL, NULL, 0))
    return FALSE;
  g_mutex_lock (&clock->lock);
  error = cudaEventRecord (clock->tail, clock->stream);
  /* relaxed: taking memory from the driver is no part of what is recorded */
  if (error == cudaSuccess)
    error = cudaStreamBeginCapture (clock->stream, cudaStreamCaptureModeRelaxed);
  clock->recording = error == cudaSuccess;
  g_mutex_unlock (&clock->lock);
  valley_gpu_check_lost (valley_gpu (stream->backend), error);
  valley_gpu_end (stream, "graph_begin", cudaSuccess);
  return error == cudaSuccess;
}

static int
end_capture (ValleyGpuClock *clock, cudaGraph_t *graph)
{
  int error;

  g_mutex_lock (&clock->lock);
  error = cudaStreamEndCapture (clock->stream, graph);
  clock->recording = FALSE;
  g_mutex_unlock (&clock->lock);
  return error;
}

static int
instantiate (ValleyGpu *gpu, cudaGraph_t graph, cudaGraphExec_t *exec)
{
  int error = cudaGraphInstantiate (exec, graph, 0);

  if (valley_gpu_make_room (gpu, error))
    error = cudaGraphInstantiate (exec, graph, 0);
  return error;
}

ValleyGraph *
valley_gpu_graph_end (ValleyStream *stream)
{
  ValleyGpu *gpu = valley_gpu (stream->backend);
  ValleyGpuClock *clock = valley_gpu_stream (stream)->clock;
  gboolean wanted = !valley_stream_stopped (stream);
  ValleyGraph *graph = g_new0 (ValleyGraph, 1);
  cudaGraph_t recorded = NULL;
  int error;

  valley_gpu_enter (gpu);
  error = end_capture (clock, &recorded);
  if (error == cudaSuccess && wanted)
    error = instantiate (gpu, recorded, &graph->exec);
  if (recorded != NULL)
    cudaGraphDestroy (recorded);
  valley_gpu_check_lost (gpu, error);
  valley_gpu_leave (gpu);
  graph->clock = valley_gpu_clock_ref (clock);
  graph->memory = clock->spare;
  g_queue_init (&clock->spare);
  if (error == cudaSuccess && wanted)
    return graph;
  valley_gpu_graph_free (stream->backend, graph);
  return NULL;
}

void
valley_gpu_graph_run (ValleyStream *stream, ValleyGraph *graph)
{
  if (valley_gpu_begin (stream, NULL, NULL, 0))
    valley_gpu_end (stream, "graph_run", cudaGraphLaunch (graph->exec, valley_gpu_cuda (stream)));
}

void
valley_gpu_graph_free (ValleyBackend *backend, ValleyGraph *graph)
{
  ValleyGpu *gpu = valley_gpu (backend);
  ValleyMemory *memory;

  if (graph == NULL)
    return;
  if (graph->exec != NULL && !g_atomic_int_get (&backend->lost)) {
    valley_gpu_enter (gpu);
    /* it may be running */
    if (!valley_gpu_check_lost (gpu, valley_gpu_clock_wait (NULL, graph->clock)))
      cudaGraphExecDestroy (graph->exec);
    valley_gpu_leave (gpu);
  }
  while ((memory = g_queue_pop_tail (&graph->memory)) != NULL)
    valley_gpu_memory_free (backend, memory);
  valley_gpu_clock_unref (graph->clock);
  g_free (graph);
}
