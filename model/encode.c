/* encode.c - one picture through the towers and the connector: the rows of its image slot.
 * The SigLIP tokens come first, the Eagle tokens follow them.
 * SPDX-License-Identifier: Apache-2.0 */
#include "alloc.h"
#include "engine.h"
#include "patches.h"

static gsize
eagle_patches (const ValleyConfig *config, const ValleyPicture *picture)
{
  return config->has_eagle ? picture->sizes.eagle_width / config->eagle.patch_size
                                 * (picture->sizes.eagle_height / config->eagle.patch_size)
                           : 0;
}

static gsize
eagle_tokens (const ValleyConfig *config, const ValleyPicture *picture)
{
  gsize merge = config->eagle.spatial_merge_size;

  return config->has_eagle ? eagle_patches (config, picture) / (merge * merge) : 0;
}

/* Tile @tile through the tower, the connector and the compressors -> @out, a fresh tensor. */
static void
encode_tile (const ValleyModel *model, ValleyStream *stream, const ValleyPicture *picture,
             guint tile, guint index, const char *dump_dir, ValleyTensor *out)
{
  ValleyDump tower = valley_dump_named (dump_dir, "frame.%u.siglip", index);
  ValleyDump frame = valley_dump_named (dump_dir, "frame.%u", index);
  ValleyTensor patches, features;

  valley_patches_for_siglip (model, stream, picture, tile, &patches);
  valley_siglip_encode (&model->stages.siglip, stream, &patches, &features, &tower);
  valley_connector_run (&model->stages.connector, stream, &features, out, &frame);
  valley_compressors_run (&model->stages.compressors, stream, out, picture->n_tiles, &frame);
  valley_tensor_clear (stream->backend, &features);
  valley_tensor_clear (stream->backend, &patches);
}

/* The model's own pooling of too large a picture (max_vision_token), of a frame under a budget. */
static void
pool_frame (const ValleyModel *model, ValleyStream *stream, const ValleyPicture *picture,
            guint index, const char *dump_dir, ValleyTensor *x)
{
  ValleyDump dump = valley_dump_named (dump_dir, "frame.%u", index);
  gsize from = valley_config_tile_side (model->config, 1), to = picture->sizes.siglip_side;
  ValleyTensor out;

  if (to == 0)
    return;
  valley_activations_init (stream, &out, to * to, x->cols);
  stream->ops->average_pool (stream, &out, x, from, from, to, to);
  valley_dump_tensor (&dump, stream, &out, "pooled");
  valley_tensor_clear (stream->backend, x);
  *x = out;
}

/* The grid's tiles, one after the other, become one token grid; the padding's tokens go, and
 * the rest is pooled where it would exceed the model's budget. */
static void
assemble_grid (ValleyStream *stream, const ValleyPicture *picture, const ValleyTensor *tiles,
               const ValleyTensor *out)
{
  const ValleyUnpad *u = &picture->unpad;
  gsize side = picture->token_side, n = (gsize) u->n_rows * u->n_cols;
  g_autofree gint32 *rows = VALLEY_NEW (gint32, n);
  ValleyTensor kept, ids;

  if (n == 0)
    return; /* a picture thinner than a token: tile 0 stands for it */
  if (rows == NULL) {
    valley_stream_fail (stream, VALLEY_ERROR_MEMORY, "not enough memory for a picture's tiles");
    return;
  }
  for (gsize i = 0; i < n; i++) {
    gsize y = u->first_row + i / u->n_cols, x = u->first_col + i % u->n_cols;
    gsize tile = y / side * picture->tiling.cols + x / side;

    rows[i] = (gint32) (tile * side * side + y % side * side + x % side);
  }
  valley_tensor_init_ids (stream, &ids, rows, n);
  if (u->pooled_rows == u->n_rows && u->pooled_cols == u->n_cols) {
    stream->ops->gather (stream, out, tiles, &ids);
  } else {
    valley_activations_init (stream, &kept, n, tiles->cols);
    stream->ops->gather (stream, &kept, tiles, &ids);
    stream->ops->average_pool (stream, out, &kept, u->n_rows, u->n_cols, u->pooled_rows,
                               u->pooled_cols);
    valley_tensor_clear (stream->backend, &kept);
  }
  valley_tensor_clear (stream->backend, &ids);
}

/* @out: a fresh tensor with the whole picture's tokens, then the assembled grid's. */
static void
encode_tiles (const ValleyModel *model, ValleyStream *stream, const ValleyPicture *picture,
              const char *dump_dir, ValleyTensor *out)
{
  gsize tokens = picture->token_side * picture->token_side;
  gsize n_grid = (gsize) picture->unpad.pooled_rows * picture->unpad.pooled_cols;
  gsize width = model->config->llm.hidden_size;
  ValleyDump dump = valley_dump_named (dump_dir, "image");
  ValleyTensor first, rest, grid;

  valley_activations_init (stream, out, tokens + n_grid, width);
  valley_activations_init (stream, &grid, (picture->n_tiles - 1) * tokens, width);
  first = valley_tensor_rows (out, 0, tokens);
  rest = valley_tensor_rows (out, tokens, n_grid);
  for (guint i = 0; i < picture->n_tiles && !valley_stream_stopped (stream); i++) {
    ValleyTensor part = i == 0 ? first : valley_tensor_rows (&grid, (i - 1) * tokens, tokens), tile;

    encode_tile (model, stream, picture, i, i, dump_dir, &tile);
    stream->ops->copy (stream, &part, &tile);
    valley_tensor_clear (stream->backend, &tile);
  }
  assemble_grid (stream, picture, &grid, &rest);
  valley_dump_tensor (&dump, stream, out, "tokens");
  valley_tensor_clear (stream->backend, &grid);
}

static void
encode_eagle (const ValleyModel *model, ValleyStream *stream, const ValleyPicture *picture,
              guint index, const char *dump_dir, const ValleyTensor *out)
{
  ValleyDump dump = valley_dump_named (dump_dir, "frame.%u.eagle", index);
  g_autofree gint32 *positions = VALLEY_NEW (gint32, 2 * eagle_patches (model->config, picture));
  ValleyTensor patches, tokens;

  if (positions == NULL) {
    valley_stream_fail (stream, VALLEY_ERROR_MEMORY, "not enough memory for a picture's patches");
    return;
  }
  valley_patches_for_eagle (model, stream, picture, &patches, positions);
  valley_eagle_encode (&model->stages.eagle, stream, &patches, positions, &tokens, &dump);
  stream->ops->copy (stream, out, &tokens);
  valley_tensor_clear (stream->backend, &tokens);
  valley_tensor_clear (stream->backend, &patches);
}

void
valley_encode_picture (const ValleyModel *model, ValleyStream *stream, const ValleyPicture *picture,
                       guint index, const char *dump_dir, ValleyTensor *rows)
{
  gsize n_eagle = eagle_tokens (model->config, picture);
  ValleyTensor siglip = { .cols = model->config->llm.hidden_size }, part;

  if (picture->n_tiles > 1) {
    encode_tiles (model, stream, picture, dump_dir, &siglip);
  } else if (picture->n_tiles == 1) {
    encode_tile (model, stream, picture, 0, index, dump_dir, &siglip);
    pool_frame (model, stream, picture, index, dump_dir, &siglip);
  }
  valley_activations_init (stream, rows, siglip.rows + n_eagle, siglip.cols);
  part = valley_tensor_rows (rows, 0, siglip.rows);
  if (picture->n_tiles > 0)
    stream->ops->copy (stream, &part, &siglip);
  part = valley_tensor_rows (rows, siglip.rows, n_eagle);
  if (n_eagle > 0 && !valley_stream_stopped (stream))
    encode_eagle (model, stream, picture, index, dump_dir, &part);
  valley_tensor_clear (stream->backend, &siglip);
}
