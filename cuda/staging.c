/* staging.c - numbers on their way between the host and the device, through pinned memory, so that
 * the copies run beside everything else.
 *
 * A stream has a ring of slots.  What is small is copied by the stream itself; what is large comes
 * by the copies' stream, which runs ahead, into the slot's own device memory, and the stream only
 * moves it to its place.  Types are converted on the device.
 * SPDX-License-Identifier: Apache-2.0 */
#include "gpu.h"

#include <string.h>

#define LARGE_BYTES ((gsize) 32 << 10)

int
valley_gpu_slot_init (ValleyGpuSlot *slot, gsize bytes)
{
  int error = cudaMallocHost (&slot->host, bytes);

  if (error == cudaSuccess)
    error = cudaMalloc (&slot->device, bytes);
  if (error == cudaSuccess)
    error = cudaEventCreateWithFlags (&slot->arrived, VALLEY_GPU_EVENT);
  if (error == cudaSuccess)
    error = cudaEventCreateWithFlags (&slot->done, VALLEY_GPU_EVENT);
  return error;
}

void
valley_gpu_slot_clear (ValleyGpuSlot *slot)
{
  if (slot->done != NULL)
    cudaEventDestroy (slot->done);
  if (slot->arrived != NULL)
    cudaEventDestroy (slot->arrived);
  cudaFree (slot->device);
  cudaFreeHost (slot->host);
  *slot = (ValleyGpuSlot){ NULL, NULL, NULL, NULL };
}

gboolean
valley_gpu_next_piece (ValleyGpuPiece *piece, gsize rows, gsize cols, gsize most)
{
  piece->col += piece->n_cols;
  if (piece->col >= cols) {
    piece->row += piece->n_rows;
    piece->col = 0;
  }
  if (piece->row >= rows || cols == 0)
    return FALSE;
  piece->n_cols = MIN (cols - piece->col, most);
  piece->n_rows = piece->n_cols < cols ? 1 : MIN (rows - piece->row, most / cols);
  return TRUE;
}

/* The next slot of the ring, once the device is through with it. */
static ValleyGpuSlot *
next_slot (ValleyGpuStream *s, int *error)
{
  ValleyGpuSlot *slot = &s->slots[s->next_slot];

  s->next_slot = (s->next_slot + 1) % VALLEY_GPU_SLOTS;
  *error = cudaEventSynchronize (slot->done);
  return slot;
}

/* ---- up ---- */

/* From the slot to @dst, by the stream itself. */
static int
send (ValleyGpuStream *s, ValleyGpuSlot *slot, void *dst, gsize bytes)
{
  int error = cudaMemcpyAsync (dst, slot->host, bytes, cudaMemcpyHostToDevice, s->clock->stream);

  if (error == cudaSuccess)
    error = cudaEventRecord (slot->done, s->clock->stream);
  return error;
}

/* Into the slot's device memory, ahead of what the stream is doing. */
static int
send_ahead (ValleyGpuStream *s, ValleyGpuSlot *slot, gsize bytes)
{
  cudaStream_t copies = valley_gpu (s->parent.backend)->copies;
  int error = cudaMemcpyAsync (slot->device, slot->host, bytes, cudaMemcpyHostToDevice, copies);

  if (error == cudaSuccess)
    error = cudaEventRecord (slot->arrived, copies);
  if (error == cudaSuccess)
    error = cudaStreamWaitEvent (s->clock->stream, slot->arrived, 0);
  return error;
}

/* Bytes to one place. */
static int
upload_range (ValleyGpuStream *s, void *dst, gconstpointer src, gsize bytes)
{
  int error = cudaSuccess;

  for (gsize at = 0; at < bytes && error == cudaSuccess; at += VALLEY_GPU_SLOT_BYTES) {
    gsize n = MIN (bytes - at, VALLEY_GPU_SLOT_BYTES);
    guint8 *to = (guint8 *) dst + at;
    ValleyGpuSlot *slot = next_slot (s, &error);

    if (error != cudaSuccess)
      break;
    memcpy (slot->host, (const guint8 *) src + at, n);
    if (bytes < LARGE_BYTES) {
      error = send (s, slot, to, n);
      continue;
    }
    error = send_ahead (s, slot, n);
    if (error == cudaSuccess)
      error = cudaMemcpyAsync (to, slot->device, n, cudaMemcpyDeviceToDevice, s->clock->stream);
    if (error == cudaSuccess)
      error = cudaEventRecord (slot->done, s->clock->stream);
  }
  return error;
}

static ValleyCudaMatrix
part_of (const ValleyCudaMatrix *m, const ValleyGpuPiece *piece)
{
  ValleyCudaMatrix part = *m;
  gsize element = m->type == VALLEY_CUDA_F32 ? 4 : 2;

  part.data = (guint8 *) m->data + (piece->row * m->stride + piece->col) * element;
  part.rows = piece->n_rows;
  part.cols = piece->n_cols;
  return part;
}

static ValleyCudaMatrix
packed (void *data, const ValleyGpuPiece *piece)
{
  return (ValleyCudaMatrix){ data, VALLEY_CUDA_F32, piece->n_rows, piece->n_cols, piece->n_cols };
}

/* f32 into any matrix. */
static int
upload_pieces (ValleyGpuStream *s, const ValleyCudaMatrix *dst, const float *src)
{
  ValleyGpuPiece piece = { 0 };
  int error = cudaSuccess;

  while (error == cudaSuccess
         && valley_gpu_next_piece (&piece, dst->rows, dst->cols, VALLEY_GPU_SLOT_BYTES / 4)) {
    ValleyCudaMatrix to = part_of (dst, &piece), from;
    ValleyGpuSlot *slot = next_slot (s, &error);

    if (error != cudaSuccess)
      break;
    from = packed (slot->device, &piece);
    memcpy (slot->host, src + piece.row * dst->cols + piece.col,
            piece.n_rows * piece.n_cols * sizeof *src);
    error = send_ahead (s, slot, piece.n_rows * piece.n_cols * sizeof *src);
    if (error == cudaSuccess)
      error = valley_cuda_copy_rows (&to, &from, NULL, s->clock->stream);
    if (error == cudaSuccess)
      error = cudaEventRecord (slot->done, s->clock->stream);
  }
  return error;
}

void
valley_gpu_upload (ValleyStream *stream, const ValleyTensor *dst, const float *src)
{
  ValleyGpuStream *s = valley_gpu_stream (stream);
  ValleyCudaMatrix m[1];
  gsize bytes = dst->rows * dst->cols * sizeof *src;

  if (!VALLEY_GPU_BEGIN (stream, m, dst))
    return;
  if (dst->dtype == VALLEY_F32 && (dst->stride == dst->cols || dst->rows == 1))
    valley_gpu_end (stream, "upload", upload_range (s, m->data, src, bytes));
  else
    valley_gpu_end (stream, "upload", upload_pieces (s, m, src));
}

void
valley_gpu_upload_ids (ValleyStream *stream, const ValleyTensor *dst, const gint32 *src)
{
  ValleyCudaMatrix m[1];

  if (VALLEY_GPU_BEGIN (stream, m, dst))
    valley_gpu_end (
        stream, "upload_ids",
        upload_range (valley_gpu_stream (stream), m->data, src, dst->rows * sizeof *src));
}

/* The pages are the stream's from here on: operations on them see the table only. */
void
valley_gpu_upload_pages (ValleyStream *stream, const ValleyTensor *table, gsize first,
                         ValleyMemory *const *pages, gsize n)
{
  ValleyGpuStream *s = valley_gpu_stream (stream);
  const gsize most = VALLEY_GPU_SLOT_BYTES / sizeof (guint64);
  g_autofree guint64 *addresses = g_new (guint64, MIN (n, most));
  int error = cudaSuccess;
  ValleyCudaMatrix m[1];

  if (!VALLEY_GPU_BEGIN (stream, m, table))
    return;
  for (gsize at = 0; at < n && error == cudaSuccess; at += most) {
    gsize part = MIN (n - at, most);

    for (gsize i = 0; i < part && error == cudaSuccess; i++) {
      addresses[i] = (guintptr) pages[at + i]->data;
      error = valley_gpu_memory_use (s, pages[at + i]);
    }
    if (error == cudaSuccess)
      error
          = upload_range (s, (guint64 *) m->data + first + at, addresses, part * sizeof *addresses);
  }
  valley_gpu_end (stream, "upload_pages", error);
}

void
valley_gpu_upload_bytes (ValleyStream *stream, ValleyMemory *dst, gconstpointer src, gsize bytes)
{
  ValleyGpuStream *s = valley_gpu_stream (stream);
  int error;

  if (dst == NULL || !valley_gpu_begin (stream, NULL, NULL, 0))
    return;
  error = valley_gpu_memory_use (s, dst);
  if (error == cudaSuccess)
    error = upload_range (s, dst->data, src, bytes);
  valley_gpu_end (stream, "upload", error);
}

/* ---- down ---- */

/* Bytes of the device into the slot and, when they are there, to @dst. */
static int
fetch (ValleyGpuStream *s, ValleyGpuSlot *slot, const void *src, void *dst, gsize bytes)
{
  int error = cudaMemcpyAsync (slot->host, src, bytes, cudaMemcpyDeviceToHost, s->clock->stream);

  if (error == cudaSuccess)
    error = cudaEventRecord (slot->done, s->clock->stream);
  if (error == cudaSuccess)
    error = valley_gpu_clock_finish (s->clock);
  if (error == cudaSuccess)
    memcpy (dst, slot->host, bytes);
  return error;
}

static int
download_pieces (ValleyGpuStream *s, const ValleyCudaMatrix *src, float *dst)
{
  ValleyGpuPiece piece = { 0 };
  int error = cudaSuccess;

  while (error == cudaSuccess
         && valley_gpu_next_piece (&piece, src->rows, src->cols, VALLEY_GPU_SLOT_BYTES / 4)) {
    ValleyCudaMatrix from = part_of (src, &piece), to;
    ValleyGpuSlot *slot = next_slot (s, &error);

    if (error != cudaSuccess)
      break;
    to = packed (slot->device, &piece);
    error = valley_cuda_copy_rows (&to, &from, NULL, s->clock->stream);
    if (error == cudaSuccess)
      error = fetch (s, slot, slot->device, dst + piece.row * src->cols + piece.col,
                     piece.n_rows * piece.n_cols * sizeof *dst);
  }
  return error;
}

gboolean
valley_gpu_download (ValleyStream *stream, const ValleyTensor *src, float *dst, GError **error)
{
  ValleyCudaMatrix m[1];

  if (VALLEY_GPU_BEGIN (stream, m, src))
    valley_gpu_end (stream, "download", download_pieces (valley_gpu_stream (stream), m, dst));
  return valley_gpu_stream_wait (stream, error);
}

gboolean
valley_gpu_download_bytes (ValleyStream *stream, ValleyMemory *src, gsize offset, gpointer dst,
                           gsize bytes, GError **error)
{
  ValleyGpuStream *s = valley_gpu_stream (stream);
  int code;

  if (src != NULL && valley_gpu_begin (stream, NULL, NULL, 0)) {
    code = valley_gpu_memory_use (s, src);
    for (gsize at = 0; at < bytes && code == cudaSuccess; at += VALLEY_GPU_SLOT_BYTES) {
      ValleyGpuSlot *slot = next_slot (s, &code);

      if (code == cudaSuccess)
        code = fetch (s, slot, (const guint8 *) src->data + offset + at, (guint8 *) dst + at,
                      MIN (bytes - at, VALLEY_GPU_SLOT_BYTES));
    }
    valley_gpu_end (stream, "download", code);
  }
  return valley_gpu_stream_wait (stream, error);
}
