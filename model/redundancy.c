/* redundancy.c - see redundancy.h.  A token is compared with the one that was last KEPT at its
 * place, not with the previous frame's: what drifts slowly would never be shown again.
 * SPDX-License-Identifier: Apache-2.0 */
#include "redundancy.h"

#include "alloc.h"

void
valley_redundancy_clear (ValleyRedundancy *redundancy, ValleyBackend *backend)
{
  valley_tensor_clear (backend, &redundancy->kept);
  g_free (redundancy->kept_in);
  *redundancy = (ValleyRedundancy){ 0 };
}

void
valley_redundancy_evict (ValleyRedundancy *redundancy, guint n)
{
  redundancy->first_frame += n;
}

static gboolean
has_same_places (const ValleyRedundancy *r, const ValleyTensor *tokens,
                 const ValleyInputSizes *sizes)
{
  return r->kept.memory != NULL && r->kept.rows == tokens->rows && r->kept.cols == tokens->cols
         && r->siglip_side == sizes->siglip_side && r->eagle_width == sizes->eagle_width
         && r->eagle_height == sizes->eagle_height;
}

/* Remembers all @tokens as the frame's. */
static void
start (ValleyRedundancy *r, ValleyStream *stream, const ValleyTensor *tokens)
{
  r->kept_in = VALLEY_NEW (guint, tokens->rows);
  if (r->kept_in == NULL) {
    valley_stream_fail (stream, VALLEY_ERROR_MEMORY, "not enough memory to compare tokens");
    return;
  }
  valley_tensor_init (stream, &r->kept, tokens->dtype, tokens->rows, tokens->cols);
  stream->ops->copy (stream, &r->kept, tokens);
  for (gsize i = 0; i < tokens->rows; i++)
    r->kept_in[i] = r->n_frames;
}

/* Every token is kept, and there is nothing before it. */
static gsize
keep_all (ValleyRedundancy *r, ValleyStream *stream, const ValleyTensor *tokens,
          const ValleyInputSizes *sizes, gint32 *chosen)
{
  ValleyRedundancy fresh = { .siglip_side = sizes->siglip_side,
                             .eagle_width = sizes->eagle_width,
                             .eagle_height = sizes->eagle_height,
                             .n_frames = r->n_frames,
                             .first_frame = r->first_frame };

  valley_redundancy_clear (r, stream->backend);
  *r = fresh;
  if (sizes->drop_threshold > 0 && tokens->rows > 0)
    start (r, stream, tokens);
  for (gsize i = 0; i < tokens->rows; i++)
    chosen[i] = (gint32) i;
  return tokens->rows;
}

/* How much each token resembles the one last kept at its place; NULL and an error on the stream
 * when that fails. */
static float *
compare (const ValleyRedundancy *r, ValleyStream *stream, const ValleyTensor *tokens)
{
  g_autofree float *host = VALLEY_NEW (float, tokens->rows);
  ValleyTensor likeness;
  GError *error = NULL;

  if (host == NULL)
    valley_stream_fail (stream, VALLEY_ERROR_MEMORY, "not enough memory to compare tokens");
  valley_tensor_init (stream, &likeness, VALLEY_F32, tokens->rows, 1);
  stream->ops->cosine (stream, &likeness, tokens, &r->kept);
  if (host != NULL && !stream->ops->download (stream, &likeness, host, &error)) {
    /* The download took the stream's error along; later operations must still see it. */
    valley_stream_fail (stream, error->code, "%s", error->message);
    g_clear_error (&error);
    g_clear_pointer (&host, g_free);
  }
  valley_tensor_clear (stream->backend, &likeness);
  return g_steal_pointer (&host);
}

/* Rows @first ... @first + @n of @tokens are the ones last kept from now on. */
static void
remember (ValleyRedundancy *r, ValleyStream *stream, const ValleyTensor *tokens, gsize first,
          gsize n)
{
  ValleyTensor to = valley_tensor_rows (&r->kept, first, n);
  ValleyTensor from = valley_tensor_rows (tokens, first, n);

  if (n > 0)
    stream->ops->copy (stream, &to, &from);
  for (gsize i = first; i < first + n; i++)
    r->kept_in[i] = r->n_frames;
}

static gsize
keep_new (ValleyRedundancy *r, ValleyStream *stream, const ValleyTensor *tokens, double threshold,
          gint32 *chosen)
{
  g_autofree float *likeness = compare (r, stream, tokens);
  gsize n = 0, first = 0;

  if (likeness == NULL)
    return 0;
  for (gsize i = 0; i < tokens->rows; i++) {
    if (likeness[i] > threshold && r->kept_in[i] >= r->first_frame) { /* a NaN is kept */
      remember (r, stream, tokens, first, i - first);
      first = i + 1;
    } else {
      chosen[n++] = (gint32) i;
    }
  }
  remember (r, stream, tokens, first, tokens->rows - first);
  return n;
}

gsize
valley_redundancy_choose (ValleyRedundancy *r, ValleyStream *stream, const ValleyTensor *tokens,
                          const ValleyInputSizes *sizes, gint32 *chosen)
{
  gsize n;

  if (sizes->drop_threshold == 0 || !has_same_places (r, tokens, sizes))
    n = keep_all (r, stream, tokens, sizes, chosen);
  else
    n = keep_new (r, stream, tokens, sizes->drop_threshold, chosen);
  r->n_frames++;
  return n;
}
