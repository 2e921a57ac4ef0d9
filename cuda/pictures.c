/* pictures.c - the operations on pictures (model/picture_ops.h): what the engine calls a frame, a
 * picture or a table of coefficients becomes what picture.h's kernels take.
 * SPDX-License-Identifier: Apache-2.0 */
#include "gpu.h"
#include "picture.h"
#include "picture_ops.h"

G_STATIC_ASSERT ((int) VALLEY_TURN_FLIP_X == (int) VALLEY_CUDA_FLIP_X
                 && (int) VALLEY_TURN_FLIP_Y == (int) VALLEY_CUDA_FLIP_Y
                 && (int) VALLEY_TURN_TRANSPOSE == (int) VALLEY_CUDA_TRANSPOSE);

/* What no thread uses any more is anybody's: pictures are read by several at a time, each of which
 * waits for its own reads. */
static void
publish (ValleyMemory *memory)
{
  g_clear_pointer (&memory->clock, valley_gpu_clock_unref);
}

/* Before reading @memory, which may be published. */
static int
use (ValleyStream *stream, ValleyMemory *memory)
{
  return memory->clock != NULL ? valley_gpu_memory_use (valley_gpu_stream (stream), memory)
                               : cudaSuccess;
}

/* Before writing it. */
static int
take (ValleyStream *stream, ValleyMemory *memory)
{
  return valley_gpu_memory_use (valley_gpu_stream (stream), memory);
}

static void
wait_event (ValleyStream *stream, gpointer event)
{
  if (valley_gpu_begin (stream, NULL, NULL, 0))
    valley_gpu_end (stream, "waiting for a frame",
                    cudaStreamWaitEvent (valley_gpu_cuda (stream), event, 0));
}

/* ---- painting ---- */

static ValleyCudaTaps
taps_of (const ValleyPaintTaps *taps)
{
  return (ValleyCudaTaps){ taps->rows->data, taps->stride, taps->bits };
}

static ValleyCudaPatches
patches_of (const ValleyPatchShape *shape, const ValleyCudaMatrix *y)
{
  ValleyCudaPatches patches = { .y = *y,
                                .size = (unsigned) shape->size,
                                .merge = (unsigned) shape->merge,
                                .times = (unsigned) shape->times,
                                .grid_height = (unsigned) shape->grid_height,
                                .grid_width = (unsigned) shape->grid_width };

  memcpy (patches.mean, shape->mean, sizeof patches.mean);
  memcpy (patches.deviation, shape->deviation, sizeof patches.deviation);
  return patches;
}

/* The target and the tables, waited for. */
static gboolean
begin_painting (ValleyStream *stream, const ValleyPaintTarget *target, const ValleyPaintPlan *plan,
                guint n_down, guint n_across, ValleyCudaPicture *picture)
{
  ValleyCudaMatrix patches;
  int error;

  if (!VALLEY_GPU_BEGIN (stream, &patches, &target->patches))
    return FALSE;
  error = take (stream, target->rgb);
  for (guint i = 0; i < n_down && error == cudaSuccess; i++)
    error = use (stream, plan->down[i].rows);
  for (guint i = 0; i < n_across && error == cudaSuccess; i++)
    error = use (stream, plan->across[i].rows);
  if (error != cudaSuccess) {
    valley_gpu_end (stream, "painting a frame", error);
    return FALSE;
  }
  *picture = (ValleyCudaPicture){ .rgb = target->rgb->data,
                                  .patches = patches_of (&target->shape, &patches),
                                  .width = target->width,
                                  .height = target->height,
                                  .turn = target->turn };
  return TRUE;
}

static ValleyCudaComponent
component_of (const ValleyVideo *video, guint i, const ValleyPaintPlan *plan)
{
  const ValleyVideoComponent *component = &video->components[i];
  const ValleyVideoPlane *plane = &video->planes[component->plane];
  unsigned sample_bytes = video->bits == 8 ? 1 : 2;

  return (ValleyCudaComponent){ .data = plane->data + component->first * sample_bytes,
                                .stride_bytes = plane->stride_bytes,
                                .step_bytes = component->step * sample_bytes,
                                .down = taps_of (&plan->down[component->plane]),
                                .across = taps_of (&plan->across[i]) };
}

static void
paint_video (ValleyStream *stream, const ValleyPaintTarget *target, const ValleyVideo *video,
             const ValleyVideoMatrix *matrix, const ValleyPaintPlan *plan)
{
  ValleyCudaVideo frame = { .bits = video->bits, .n_components = video->n_components };
  ValleyCudaPicture picture;

  if (!begin_painting (stream, target, plan, video->n_planes, video->n_components, &picture))
    return;
  for (guint i = 0; i < video->n_components; i++)
    frame.components[i] = component_of (video, i, plan);
  memcpy (frame.factor, matrix->factor, sizeof frame.factor);
  memcpy (frame.offset, matrix->offset, sizeof frame.offset);
  valley_gpu_end (stream, "painting a frame",
                  valley_cuda_paint_video (&picture, &frame, valley_gpu_cuda (stream)));
}

static void
paint_rgb (ValleyStream *stream, const ValleyPaintTarget *target, const ValleyRgbImage *image,
           gboolean limited_range, const ValleyPaintPlan *plan)
{
  ValleyCudaRgb frame = { .data = image->data,
                          .stride_bytes = image->stride_bytes,
                          .channels = image->channels,
                          .limited = limited_range };
  ValleyCudaPicture picture;

  if (!begin_painting (stream, target, plan, 1, 1, &picture))
    return;
  memcpy (frame.rgb, image->rgb, sizeof frame.rgb);
  frame.down = taps_of (&plan->down[0]);
  frame.across = taps_of (&plan->across[0]);
  valley_gpu_end (stream, "painting a frame",
                  valley_cuda_paint_rgb (&picture, &frame, valley_gpu_cuda (stream)));
}

static void
patches (ValleyStream *stream, const ValleyTensor *y, ValleyMemory *rgb, gsize width,
         const ValleyPatchShape *shape)
{
  ValleyCudaMatrix matrix;
  ValleyCudaPatches to;
  int error;

  if (!VALLEY_GPU_BEGIN (stream, &matrix, y))
    return;
  to = patches_of (shape, &matrix);
  error = use (stream, rgb);
  if (error == cudaSuccess)
    error = valley_cuda_patches (&to, rgb->data, (unsigned) width, valley_gpu_cuda (stream));
  valley_gpu_end (stream, "cutting a picture into patches", error);
}

/* ---- comparing ---- */

/* @n zeros from sums[at] on, and the sums' address there. */
static int
clear_sums (ValleyStream *stream, ValleyMemory *sums, gsize at, gsize n, uint64_t **first)
{
  int error = take (stream, sums);

  *first = (uint64_t *) sums->data + at;
  if (error == cudaSuccess)
    error = cudaMemsetAsync (*first, 0, n * sizeof **first, valley_gpu_cuda (stream));
  return error;
}

static void
fingerprint (ValleyStream *stream, ValleyMemory *sums, gsize at, ValleyMemory *data, gsize bytes)
{
  uint64_t *first;
  int error;

  if (!valley_gpu_begin (stream, NULL, NULL, 0))
    return;
  error = clear_sums (stream, sums, at, 2, &first);
  if (error == cudaSuccess)
    error = use (stream, data);
  if (error == cudaSuccess)
    error = valley_cuda_fingerprint (first, data->data, bytes, valley_gpu_cuda (stream));
  valley_gpu_end (stream, "looking at a picture", error);
}

static void
difference (ValleyStream *stream, ValleyMemory *sums, gsize at, ValleyMemory *a, ValleyMemory *b,
            gsize bytes)
{
  uint64_t *first;
  int error;

  if (!valley_gpu_begin (stream, NULL, NULL, 0))
    return;
  error = clear_sums (stream, sums, at, 1, &first);
  if (error == cudaSuccess)
    error = use (stream, a);
  if (error == cudaSuccess)
    error = use (stream, b);
  if (error == cudaSuccess)
    error = valley_cuda_difference (first, a->data, b->data, bytes, valley_gpu_cuda (stream));
  valley_gpu_end (stream, "comparing pictures", error);
}

static gboolean
download (ValleyStream *stream, ValleyMemory *src, gpointer dst, gsize bytes, GError **error)
{
  return valley_gpu_download_bytes (stream, src, 0, dst, bytes, error);
}

const ValleyPictureOps valley_gpu_picture_ops = {
  .stream_new = valley_gpu_urgent_stream_new,
  .upload = valley_gpu_upload_bytes,
  .download = download,
  .publish = publish,
  .wait_event = wait_event,
  .paint_video = paint_video,
  .paint_rgb = paint_rgb,
  .patches = patches,
  .fingerprint = fingerprint,
  .difference = difference,
};
