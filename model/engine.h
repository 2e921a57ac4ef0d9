/* engine.h - what the engine's own files know of a model: valley.c, picture.c, encode.c, the files
 * of a session (frames, sequences, windows, prompts, answers) and inspect.c include it, no stage
 * does.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "compressor.h"
#include "connector.h"
#include "decoder.h"
#include "devices.h"
#include "image.h"
#include "paint.h"
#include "prompt.h"
#include "qwen2vit.h"
#include "siglip.h"

/* Every stage that has weights. */
typedef struct {
  ValleySiglip siglip;
  ValleyConnector connector;
  ValleyCompressors compressors;
  ValleyEagle eagle;
  ValleyDecoder llm;
} ValleyStages;

/* Asks @weights for everything the model needs: loading and inspecting both start here. */
void valley_stages_init (ValleyStages *stages, const ValleyConfig *config, ValleyWeights *weights);
void valley_stages_clear (ValleyStages *stages);

typedef enum { VALLEY_LOAD_NONE, VALLEY_LOAD_RUNNING, VALLEY_LOAD_DONE } ValleyLoadState;

struct _ValleyModel {
  gint refs; /* under the registry's lock */
  char *key; /* in the registry */
  ValleyConfig *config;
  ValleyDevice device;
  GObject *context_owner; /* of device.context, or NULL */
  ValleyPrecision precision; /* never AUTO */
  guint threads;
  gboolean strict;
  guint64 random_seed;

  GMutex lock; /* of `state` */
  GCond changed;
  ValleyLoadState state;
  GMutex backend_lock;    /* of the making of these two, which then stay; held for as long as that
                             takes, which nobody should who holds another lock */
  ValleyBackend *backend; /* atomic */
  ValleyPainter *painter;
  /* Written by the one loading thread, read by others once the state is DONE. */
  ValleySafetensors *files;
  ValleyWeights *weights;
  ValleyTokenizer *tokenizer;
  ValleyPrompt *prompt;
  ValleyStages stages;
};

/* What a picture has instead of pixels when it lives on its model's device. */
typedef enum { VALLEY_SIGLIP_IMAGE, VALLEY_EAGLE_IMAGE, VALLEY_N_IMAGES } ValleyImageIndex;
typedef struct {
  ValleyModel *model; /* held: the memory is its backend's */
  GMutex lock;        /* of the images' patches, which the first to encode them takes */
  ValleyDeviceImage images[VALLEY_N_IMAGES];
  guint64 fingerprints[2 * VALLEY_N_IMAGES]; /* equal where the images are */
  gsize patch_bytes; /* until they are taken */
} ValleyDevicePicture;

struct _ValleyPicture {
  gint refs;
  guint64 pts_ns;
  ValleyInputSizes sizes;
  guint8 *siglip_rgb; /* one tile after the other */
  guint n_tiles;      /* 1 for a frame, 0 without the tower */
  guint8 *eagle_rgb;
  ValleyDevicePicture *device; /* NULL: the pixels are the two above */
  gboolean is_tiled;
  ValleyTiling tiling; /* of a tiled picture, and what is left of its grid */
  ValleyUnpad unpad;
  gsize token_side; /* tokens a side that the model it was made for makes of a tile */
};

/* picture.c: FALSE, with what was expected, for sizes that no tower of the model takes. */
gboolean valley_picture_check_sizes (const ValleyConfig *config, const ValleyInputSizes *sizes,
                                     gsize max_pixels, GError **error);

/* devicepicture.c */
void valley_device_picture_free (ValleyDevicePicture *device); /* NULL is fine */
/* The sum of |a - b| over all bytes of two pictures of the same sizes and model. */
gboolean valley_device_pictures_compare (const ValleyDevicePicture *a,
                                         const ValleyDevicePicture *b, guint64 *sum,
                                         GError **error);

/* valley.c: the backend, made by whoever needs it first, and what paints on it; FALSE or NULL:
 * @error. */
gboolean valley_model_open_backend (ValleyModel *model, GError **error);
ValleyPainter *valley_model_painter (ValleyModel *model, GError **error);

/* picture.c: FALSE when the picture was made for a model with other towers. */
gboolean valley_picture_fits (const ValleyPicture *picture, const ValleyModel *model,
                              GError **error);

/* encode.c: one picture through the towers and the connector -> @rows, a fresh tensor with the
 * SigLIP tokens, then the Eagle tokens.  Errors end up on the stream. */
void valley_encode_picture (const ValleyModel *model, ValleyStream *stream,
                            const ValleyPicture *picture, guint index, const char *dump_dir,
                            ValleyTensor *rows);

/* session.c: how many prompt rows go through a layer at a time; tests vary it. */
void valley_session_set_prefill_rows (ValleySession *session, gsize rows);
