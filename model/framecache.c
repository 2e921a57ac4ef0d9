/* framecache.c - see framecache.h.
 * SPDX-License-Identifier: Apache-2.0 */
#include "framecache.h"

#include <string.h>

struct _ValleyFrameCache {
  ValleyModel *model;
  ValleyStream *stream;
  const char *dump_dir;
  double change_threshold;

  GPtrArray *frames;    /* all that somebody holds; borrowed */
  ValleyFrame *changed; /* the last that counted as changed, held */
  guint64 last_content, clock;
  ValleyFrameCounts counts;
};

ValleyFrameCache *
valley_frame_cache_new (ValleyModel *model, ValleyStream *stream, const char *dump_dir,
                        double change_threshold)
{
  ValleyFrameCache *cache = g_new0 (ValleyFrameCache, 1);

  cache->model = model;
  cache->stream = stream;
  cache->dump_dir = dump_dir;
  cache->change_threshold = change_threshold;
  cache->frames = g_ptr_array_new ();
  return cache;
}

void
valley_frame_cache_set_change_threshold (ValleyFrameCache *cache, double change_threshold)
{
  cache->change_threshold = change_threshold;
}

void
valley_frame_cache_reset (ValleyFrameCache *cache)
{
  g_clear_pointer (&cache->changed, valley_frame_unref);
}

void
valley_frame_cache_free (ValleyFrameCache *cache)
{
  if (cache == NULL)
    return;
  valley_frame_cache_reset (cache);
  g_warn_if_fail (cache->frames->len == 0);
  g_ptr_array_unref (cache->frames);
  g_free (cache);
}

const ValleyFrameCounts *
valley_frame_cache_counts (const ValleyFrameCache *cache)
{
  return &cache->counts;
}

/* ---- contents ---- */

static gsize
siglip_bytes (const ValleyPicture *picture)
{
  return 3 * (gsize) picture->n_tiles * picture->sizes.siglip_width * picture->sizes.siglip_height;
}

static gsize
eagle_bytes (const ValleyPicture *picture)
{
  return 3 * (gsize) picture->sizes.eagle_width * picture->sizes.eagle_height;
}

static guint64
mix (guint64 hash, guint64 word)
{
  hash = (hash ^ word) * G_GUINT64_CONSTANT (0x9e3779b97f4a7c15);
  return hash ^ (hash >> 29);
}

static guint64
hash_bytes (guint64 hash, const guint8 *data, gsize n)
{
  guint64 word;
  gsize i = 0;

  for (; i + sizeof word <= n; i += sizeof word) {
    memcpy (&word, data + i, sizeof word);
    hash = mix (hash, word);
  }
  for (; i < n; i++)
    hash = mix (hash, data[i]);
  return hash;
}

/* Of the towers' inputs and how they are to be treated. */
static guint64
hash_picture (const ValleyPicture *picture)
{
  const ValleyInputSizes *s = &picture->sizes;
  guint64 hash = mix (0, ((guint64) s->siglip_width << 32) | s->siglip_height);

  hash = mix (hash, ((guint64) s->eagle_width << 32) | s->eagle_height);
  hash = mix (hash, s->siglip_side);
  for (guint i = 0; picture->device != NULL && i < 2 * VALLEY_N_IMAGES; i++)
    hash = mix (hash, picture->device->fingerprints[i]);
  if (picture->device != NULL)
    return hash;
  hash = hash_bytes (hash, picture->siglip_rgb, siglip_bytes (picture));
  return hash_bytes (hash, picture->eagle_rgb, eagle_bytes (picture));
}

/* Tiled pictures are alone in their window: nothing is gained by finding them again.  One on the
 * host and one on the device are not brought together for it. */
static gboolean
is_comparable (const ValleyPicture *a, const ValleyPicture *b)
{
  const ValleyInputSizes *s = &a->sizes, *t = &b->sizes;

  return !a->is_tiled && !b->is_tiled && (a->device != NULL) == (b->device != NULL)
         && s->siglip_width == t->siglip_width && s->siglip_height == t->siglip_height
         && s->eagle_width == t->eagle_width && s->eagle_height == t->eagle_height
         && s->siglip_side == t->siglip_side && s->n_tokens_before == t->n_tokens_before
         && s->drop_threshold == t->drop_threshold && s->closes_gaps == t->closes_gaps;
}

static guint64
sum_differences (const guint8 *a, const guint8 *b, gsize n)
{
  guint64 sum = 0;

  for (gsize i = 0; i < n; i++)
    sum += (guint64) ABS (a[i] - b[i]);
  return sum;
}

/* The sum of |a - b| over all bytes of two comparable pictures.  FALSE: they could not be compared
 * on their device; whoever goes on there meets the error. */
static gboolean
measure_difference (const ValleyPicture *a, const ValleyPicture *b, guint64 *sum)
{
  if (a->device != NULL)
    return valley_device_pictures_compare (a->device, b->device, sum, NULL);
  *sum = sum_differences (a->siglip_rgb, b->siglip_rgb, siglip_bytes (a))
         + sum_differences (a->eagle_rgb, b->eagle_rgb, eagle_bytes (a));
  return TRUE;
}

static gboolean
is_equal (const ValleyPicture *a, const ValleyPicture *b)
{
  gsize siglip = siglip_bytes (a), eagle = eagle_bytes (a);
  guint64 sum;

  if (!is_comparable (a, b))
    return FALSE;
  if (a->device != NULL)
    return memcmp (a->device->fingerprints, b->device->fingerprints, sizeof a->device->fingerprints)
               == 0
           && measure_difference (a, b, &sum) && sum == 0;
  return (siglip == 0 || memcmp (a->siglip_rgb, b->siglip_rgb, siglip) == 0)
         && (eagle == 0 || memcmp (a->eagle_rgb, b->eagle_rgb, eagle) == 0);
}

/* Whether @picture differs from the last changed frame by no more than the threshold. */
static gboolean
is_nearly_changed (const ValleyFrameCache *cache, const ValleyPicture *picture)
{
  const ValleyPicture *last;
  double n_bytes;
  guint64 sum;

  if (cache->change_threshold <= 0 || cache->changed == NULL)
    return FALSE;
  last = cache->changed->picture;
  if (!is_comparable (last, picture) || !measure_difference (last, picture, &sum))
    return FALSE;
  n_bytes = (double) (siglip_bytes (picture) + eagle_bytes (picture));
  return (double) sum <= cache->change_threshold * 255.0 * n_bytes;
}

static ValleyFrame *
find_equal (const ValleyFrameCache *cache, const ValleyPicture *picture, guint64 hash)
{
  for (guint i = cache->frames->len; i > 0; i--) {
    ValleyFrame *frame = g_ptr_array_index (cache->frames, i - 1);

    if (frame->hash == hash && is_equal (frame->picture, picture))
      return frame;
  }
  return NULL;
}

/* ---- encodings ---- */

static gsize
row_bytes (const ValleyFrame *frame)
{
  return frame->rows.rows * frame->rows.cols * valley_dtype_bytes (frame->rows.dtype);
}

static void
forget_rows (ValleyFrame *frame)
{
  frame->cache->counts.bytes -= row_bytes (frame);
  valley_tensor_clear (frame->cache->model->backend, &frame->rows);
}

static gboolean
encode (ValleyFrame *frame, GError **error)
{
  ValleyFrameCache *cache = frame->cache;
  ValleyTensor rows;

  valley_encode_picture (cache->model, cache->stream, frame->picture, frame->number,
                         cache->dump_dir, &rows);
  if (!cache->stream->ops->stream_wait (cache->stream, error)) {
    valley_tensor_clear (cache->model->backend, &rows);
    return FALSE;
  }
  frame->rows = rows;
  frame->n_rows = rows.rows;
  cache->counts.bytes += row_bytes (frame);
  return TRUE;
}

const ValleyTensor *
valley_frame_rows (ValleyFrame *frame, GError **error)
{
  if (frame->rows.memory == NULL && frame->n_rows > 0) {
    if (!encode (frame, error))
      return NULL;
    frame->cache->counts.reencoded++;
  }
  frame->used = ++frame->cache->clock;
  return &frame->rows;
}

gboolean
valley_frame_cache_evict (ValleyFrameCache *cache)
{
  ValleyFrame *oldest = NULL;

  for (guint i = 0; i < cache->frames->len; i++) {
    ValleyFrame *frame = g_ptr_array_index (cache->frames, i);

    if (frame->rows.memory != NULL && (oldest == NULL || frame->used < oldest->used))
      oldest = frame;
  }
  if (oldest == NULL)
    return FALSE;
  forget_rows (oldest);
  cache->counts.evicted++;
  return TRUE;
}

/* ---- frames ---- */

ValleyFrame *
valley_frame_ref (ValleyFrame *frame)
{
  frame->refs++;
  return frame;
}

void
valley_frame_unref (ValleyFrame *frame)
{
  if (frame == NULL || --frame->refs > 0)
    return;
  forget_rows (frame);
  g_ptr_array_remove (frame->cache->frames, frame);
  valley_picture_unref (frame->picture);
  g_free (frame);
}

static ValleyFrame *
frame_new (ValleyFrameCache *cache, ValleyPicture *picture, guint number, guint64 hash,
           GError **error)
{
  ValleyFrame *frame = g_new0 (ValleyFrame, 1);

  frame->refs = 1;
  frame->cache = cache;
  frame->picture = valley_picture_ref (picture);
  frame->hash = hash;
  frame->content = ++cache->last_content;
  frame->number = number;
  frame->used = ++cache->clock;
  g_ptr_array_add (cache->frames, frame);
  if (encode (frame, error)) {
    cache->counts.encoded++;
    return frame;
  }
  valley_frame_unref (frame);
  return NULL;
}

ValleyFrame *
valley_frame_cache_add (ValleyFrameCache *cache, ValleyPicture *picture, guint number,
                        GError **error)
{
  guint64 hash = hash_picture (picture);
  ValleyFrame *frame = NULL;

  if (cache->dump_dir == NULL && is_nearly_changed (cache, picture))
    frame = cache->changed;
  else if (cache->dump_dir == NULL)
    frame = find_equal (cache, picture, hash);
  if (frame != NULL) {
    cache->counts.unchanged++;
    valley_frame_ref (frame);
  } else {
    frame = frame_new (cache, picture, number, hash, error);
  }
  if (frame != NULL && frame != cache->changed) {
    valley_frame_unref (cache->changed);
    cache->changed = valley_frame_ref (frame);
  }
  return frame;
}
