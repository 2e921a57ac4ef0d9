/* valley.h - the engine's one public header: open a Valley checkpoint, give it
 * pictures, ask it a question, read the answer token by token.
 *
 * Data flows one way: picture -> session -> result.  The caller pulls; the engine
 * never calls back.  No GStreamer and no CUDA type appears here.
 *
 * Ownership: inputs are borrowed for the duration of the call unless a comment says
 * otherwise.  Everything that can fail returns FALSE or NULL and fills a GError of
 * domain VALLEY_ERROR that names the file, the key and what was expected.
 * Times are nanoseconds of the caller's clock (GStreamer: buffer PTS), durations in
 * results are milliseconds, both said in the names.
 *
 * Facts about the models (shapes, names, prompt) come from the public repository
 * bytedance/Valley and the released checkpoints' JSON files.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <gio/gio.h>

G_BEGIN_DECLS

#if defined(__GNUC__)
#define VALLEY_API __attribute__ ((visibility ("default")))
#else
#define VALLEY_API
#endif

/* ---- errors -------------------------------------------------------------- */

#define VALLEY_ERROR (valley_error_quark ())
typedef enum {
  VALLEY_ERROR_NOT_FOUND, /* a folder or file is not there */
  VALLEY_ERROR_READ,      /* a file cannot be read, is truncated or malformed */
  VALLEY_ERROR_CONFIG,    /* a value in a JSON file is absurd or unsupported */
  VALLEY_ERROR_TENSOR,    /* a tensor is missing or has the wrong shape or type */
  VALLEY_ERROR_DEVICE,    /* no such device, or it failed */
  VALLEY_ERROR_MEMORY,    /* not enough memory for a file-sized allocation */
  VALLEY_ERROR_ARGUMENT,  /* the caller asked for something impossible */
  VALLEY_ERROR_CONTEXT,   /* prompt and answer do not fit max_position_embeddings */
  VALLEY_ERROR_CANCELLED  /* valley_session_cancel or the GCancellable was used */
} ValleyError;
VALLEY_API GQuark valley_error_quark (void);

/* ---- model --------------------------------------------------------------- */

/* Immutable once loaded, reference-counted, safe from every thread.  All who open the same
 * folder with the same device and precision in one process share one model. */
typedef struct _ValleyModel ValleyModel;

typedef enum {
  VALLEY_PRECISION_AUTO, /* bf16 where the device computes it natively, else f32 */
  VALLEY_PRECISION_F32,
  VALLEY_PRECISION_BF16, /* matrix products in bf16 with f32 sums; on a CPU the rest in f32 */
  VALLEY_PRECISION_F16   /* a GPU's alone: the same in f16 */
} ValleyPrecision;

typedef struct {
  const char *device; /* "cpu", "cuda" (the first), "cuda:N", or "auto" (or NULL): the first
                         CUDA device where there is one, else the CPU */
  ValleyPrecision precision;
  guint threads;         /* how many of the process-wide pool's threads may work for this
                            model at a time, the caller's own among them, at most 256;
                            0: one a core.  Who opens a shared model first decides. */
  gboolean strict;       /* tests: device memory is unreadable between operations */
  guint64 random_seed;   /* benchmarks: not 0: no weights are read, every tensor is made up
                            of small random numbers; the folder holds config.json and the
                            tokenizer alone */
  gpointer cuda_context; /* a CUcontext of that CUDA device; NULL: the model makes its own */
  GObject *cuda_context_owner; /* what keeps `cuda_context`: held until the model is freed; NULL:
                                  the caller does for as long */
} ValleyModelOptions;

/* The bundled checkpoint's folder: $VALLEY_MODEL_DIR, else relative to the library's own
 * file (build tree, installed tree), else the configured datadir.  Free with g_free.
 * NULL when there is none. */
VALLEY_API char *valley_default_model_dir (void);

/* Reads config.json and checks every value; weights and tokenizer are not touched.
 * @options may be NULL. */
VALLEY_API ValleyModel *valley_model_open (const char *dir, const ValleyModelOptions *options,
                                           GError **error);
VALLEY_API ValleyModel *valley_model_ref (ValleyModel *model);
VALLEY_API void valley_model_unref (ValleyModel *model); /* NULL is fine */
/* What "auto" has become, as a name that `device` takes: "cpu", "cuda:0". */
VALLEY_API const char *valley_model_device (ValleyModel *model);
/* Whether the device failed for good, so that every call for this model and its sessions fails
 * with VALLEY_ERROR_DEVICE; any thread may ask.  A model opened anew (valley_model_open no longer
 * finds this one) works again: load it, make new sessions, push the pictures that are still
 * needed. */
VALLEY_API gboolean valley_model_is_lost (ValleyModel *model);
/* The folder of @model with the same options but the context (both as in ValleyModelOptions): the
 * one that @model had failed with it. */
VALLEY_API ValleyModel *valley_model_open_again (ValleyModel *model, gpointer cuda_context,
                                                 GObject *cuda_context_owner, GError **error);

/* Maps the weights, checks every tensor, reads the tokenizer.  Slow; call it off the
 * streaming thread.  Idempotent and thread-safe: concurrent callers wait for one load.
 * A failed or cancelled load leaves the model openable again. */
VALLEY_API gboolean valley_model_load (ValleyModel *model, GCancellable *cancellable,
                                       GError **error);

/* How a frame's vision tokens are made fewer.  A window's budget is shared out evenly among the
 * most frames that it can have, so that a frame's tokens never depend on how many others there
 * are now.  A frame meets its share by coarser and coarser grids of SigLIP tokens, and between
 * two of them by a smaller Eagle picture; where even the least of both exceeds it, the least is
 * used. */
typedef struct {
  guint max_vision_tokens; /* of a window; 0: no budget */
  guint max_frames;        /* the most that a window can have; at least 1 with a budget */
  gboolean pool, eagle;    /* which of the two may be done */
  gboolean drop;           /* with or without a budget: tokens that repeat the last one that was
                              kept at their place are left out */
  gboolean close;          /* what is dropped leaves no gap: the rest moves up */
  double drop_threshold;   /* above which cosine they repeat it; 0: the default, 1: never */
} ValleyReduction;

/* What the two towers want of a frame of @width x @height display pixels (square pixels), and
 * what becomes of its tokens.  A size of 0 means that the model has no such tower.  Works before
 * loading.  @reduction may be NULL. */
typedef struct {
  guint siglip_width, siglip_height; /* the SigLIP tower: always square, squashed */
  guint eagle_width, eagle_height;   /* the Qwen2-VL tower: multiples of patch x merge */
  guint siglip_side;                 /* its SigLIP tokens are pooled to a square of this side;
                                        0: as they are */
  guint n_tokens, n_tokens_before;   /* of a frame (at most), and without reduction */
  gboolean closes_gaps;              /* what is dropped has no position */
  double drop_threshold;             /* 0: no token is dropped */
} ValleyInputSizes;
VALLEY_API gboolean valley_model_input_sizes (ValleyModel *model, guint width, guint height,
                                              const ValleyReduction *reduction,
                                              ValleyInputSizes *sizes, GError **error);

/* A human-readable or JSON report on a checkpoint folder: architecture, tensor table, memory
 * needed, tensors missing, unused or misshapen.  *complete says whether it can be run.
 * NULL only when the folder cannot be examined at all.  Free with g_free. */
VALLEY_API char *valley_inspect (const char *dir, gboolean json, gboolean *complete,
                                 GError **error);

/* ---- pictures ------------------------------------------------------------ */

/* One frame (or one still image) as the towers see it.  Small, owns its memory,
 * immutable, reference-counted. */
typedef struct _ValleyPicture ValleyPicture;

/* @siglip_rgb and @eagle_rgb: tightly packed 8-bit RGB rows of exactly the sizes that
 * valley_model_input_sizes gave; copied.  NULL for a tower the model does not have. */
VALLEY_API ValleyPicture *valley_picture_new (ValleyModel *model, guint64 pts_ns,
                                              const ValleyInputSizes *sizes,
                                              const guint8 *siglip_rgb, const guint8 *eagle_rgb,
                                              GError **error);

/* The same from packed RGB of any size, resized as the model's own preprocessing does.
 * @reduction may be NULL. */
VALLEY_API ValleyPicture *valley_picture_new_from_rgb (ValleyModel *model, guint64 pts_ns,
                                                       const guint8 *rgb, gsize stride_bytes,
                                                       guint width, guint height,
                                                       const ValleyReduction *reduction,
                                                       GError **error);

/* A lone still image, tiled as the model does (anyres).  It cannot share a window. */
VALLEY_API ValleyPicture *valley_picture_new_tiled (ValleyModel *model, const guint8 *rgb,
                                                    gsize stride_bytes, guint width, guint height,
                                                    GError **error);
VALLEY_API ValleyPicture *valley_picture_ref (ValleyPicture *picture);
VALLEY_API void valley_picture_unref (ValleyPicture *picture);
VALLEY_API guint64 valley_picture_pts_ns (const ValleyPicture *picture);
VALLEY_API gsize valley_picture_bytes (const ValleyPicture *picture);

/* Pillow's antialiased bicubic resize (a = -0.5, horizontal pass first, rounded to 8 bits
 * between the passes) of @channels interleaved 8-bit samples (1 to 4).  FALSE only when
 * memory is short or a size is 0 or above 65535. */
VALLEY_API gboolean valley_image_resize (const guint8 *src, gsize src_stride_bytes, guint src_width,
                                         guint src_height, guint channels, guint8 *dst,
                                         gsize dst_stride_bytes, guint dst_width, guint dst_height);

/* Where a small picture goes: tightly packed 8-bit RGB rows. */
typedef struct {
  guint8 *rgb;
  guint width, height;
} ValleyVideoOutput;

/* A picture of interleaved 8-bit samples, of which three are R, G and B. */
typedef struct {
  const guint8 *data; /* the first row */
  gsize stride_bytes;
  guint width, height;
  guint channels; /* samples in a pixel: 3 or 4 */
  guint8 rgb[3];  /* which of them are R, G and B */
} ValleyRgbImage;

/* The same resize to one to four RGB pictures; the source is read once for all of them.  FALSE
 * when memory is short or a value is outside what is said here. */
VALLEY_API gboolean valley_image_resize_rgb (const ValleyRgbImage *image,
                                             const ValleyVideoOutput *outputs, guint n_outputs);

/* ---- planes of video ----------------------------------------------------- */

/* A plane of a video frame: rows of 8- or 16-bit samples. */
typedef struct {
  const guint8 *data; /* the first row */
  gsize stride_bytes;
  guint n_samples, n_rows; /* samples in a row, of all its components together */
  double top, height;      /* what is shown, in rows; past the plane its edge goes on */
} ValleyVideoPlane;

/* Y, U or V inside a plane. */
typedef struct {
  guint plane;
  guint first, step;  /* its samples in a row: first, first + step, ...; step is 1, 2 or 4 */
  guint n_samples;    /* and how many */
  double left, width; /* what is shown, in its own samples */
} ValleyVideoComponent;

typedef struct {
  guint bits;         /* 8: bytes; 9 to 16: little-endian words, whose low bits these are */
  guint n_planes;     /* 1 to 3 */
  guint n_components; /* 3: Y, U, V; 1: Y alone */
  ValleyVideoPlane planes[3];
  ValleyVideoComponent components[3];
  double matrix[3][4]; /* R, G and B in 0 to 255 of Y, U, V (as if in 8 bits) and 1 */
} ValleyVideo;

/* Turns planes into small RGB pictures: the same antialiased bicubic kernel as above, with the
 * colors rounded once, at the end.  Keeps coefficients and scratch memory for the next frame.
 * Used from one thread at a time. */
typedef struct _ValleyVideoScaler ValleyVideoScaler;
VALLEY_API ValleyVideoScaler *valley_video_scaler_new (void);
VALLEY_API void valley_video_scaler_free (ValleyVideoScaler *scaler); /* NULL is fine */
/* One to four pictures of the same frame, which is read once for all of them.  FALSE when
 * memory is short or a value is outside what is said above. */
VALLEY_API gboolean valley_video_scaler_paint (ValleyVideoScaler *scaler, const ValleyVideo *video,
                                               const ValleyVideoOutput *outputs, guint n_outputs);

/* ---- frames in a device's memory ------------------------------------------ */

/* How a stored frame is turned to be seen upright: transposed first, then mirrored. */
typedef enum {
  VALLEY_TURN_NONE = 0,
  VALLEY_TURN_FLIP_X = 1,   /* columns from right to left */
  VALLEY_TURN_FLIP_Y = 2,   /* rows from bottom to top */
  VALLEY_TURN_TRANSPOSE = 4 /* rows become columns */
} ValleyTurn;

/* One of @video and @rgb; what they call data are addresses in the memory of the model's device
 * (cuda: of its context), of words at even ones. */
typedef struct {
  const ValleyVideo *video;
  const ValleyRgbImage *rgb;
  gboolean limited_range; /* of @rgb: black is 16 and white 235 */
  ValleyTurn turn;
  gpointer ready;         /* cuda: a CUevent after which the frame is complete, or NULL: it is */
} ValleyDeviceFrame;

/* Whether valley_picture_new_from_device works for the model: whether its device has memory of its
 * own.  Opens the device, which may take a while the first time; any thread may ask, before
 * loading too.  FALSE without an @error: frames belong in the host's memory. */
VALLEY_API gboolean valley_model_takes_device_frames (ValleyModel *model, GError **error);

/* The CUcontext that the model was opened in (ValleyModelOptions.cuda_context), which frames are to
 * belong to; NULL: it has one of its own, or none. */
VALLEY_API gpointer valley_model_cuda_context (ValleyModel *model);

/* The same picture as the host's functions make of the same frame, to the byte, but it stays on
 * the device.  Returns when the frame has been read: its memory may change then.  The picture is
 * for this model alone, and holds a reference to it. */
VALLEY_API ValleyPicture *valley_picture_new_from_device (ValleyModel *model, guint64 pts_ns,
                                                          const ValleyInputSizes *sizes,
                                                          const ValleyDeviceFrame *frame,
                                                          GError **error);

/* ---- session ------------------------------------------------------------- */

/* One stream's state: the window's pictures with their encodings, the KV cache, the
 * answer in progress.  Used from one thread at a time, except valley_session_cancel. */
typedef struct _ValleySession ValleySession;

typedef struct {
  const char *dump_dir;      /* NULL, or a folder that gets every stage as NAME.npy */
  gboolean keep_logits;      /* keep every step's logits for valley_session_logits */
  const char *system_prompt; /* what frames are prefilled under as they come, until a request
                                says otherwise; NULL: "You are a helpful assistant." */
  gboolean no_draft;         /* do not draft answers from previous ones */
  double change_threshold;   /* a frame that differs by at most this from the last frame that
                                counted as changed (mean absolute difference of the towers'
                                inputs, 0 to 1) counts as that frame; 0: only equal ones do */
} ValleySessionOptions;

/* How consecutive windows of a stream share what was computed.  In all but `streaming` an
 * answer is, bit by bit, that of a fresh session which is shown the same frames. */
typedef enum {
  VALLEY_WINDOWS_TUMBLING, /* one sequence: the oldest window that was not asked yet */
  VALLEY_WINDOWS_ANCHORED, /* windows grow from W to 2W frames, then start anew at the newest W;
                              two sequences */
  VALLEY_WINDOWS_SLIDING,  /* exactly the last W frames; a sequence for every window begun */
  VALLEY_WINDOWS_STREAMING /* exactly the last W frames in one sequence whose oldest rows are
                              dropped: approximate */
} ValleyWindowPolicy;

typedef struct {
  ValleyWindowPolicy policy;
  guint window_frames, hop_frames; /* W and H; 0: not known, which only tumbling can do with */
  guint64 cache_max_bytes;         /* of KV pages and encodings; 0: no bound of our own */
  guint reanchor_hops;             /* streaming: windows between exact restarts; 0: 64 */
  double max_drift;                /* streaming: mean KL in nats of the first answer token (over
                                      four comparisons at least) above which it falls back to an
                                      exact policy; 0: never */
} ValleyWindowing;

/* @model must be loaded; the session holds a reference.  @options may be NULL. */
VALLEY_API ValleySession *valley_session_new (ValleyModel *model,
                                              const ValleySessionOptions *options, GError **error);
VALLEY_API void valley_session_free (ValleySession *session);

/* At any time; frames stay, what is cached is rebuilt where needed.  A new session is tumbling,
 * without a bound. */
VALLEY_API gboolean valley_session_set_windowing (ValleySession *session,
                                                  const ValleyWindowing *windowing, GError **error);
/* For the frames that come; from 0 to 1, see ValleySessionOptions. */
VALLEY_API gboolean valley_session_set_change_threshold (ValleySession *session,
                                                         double change_threshold, GError **error);
/* The bytes of KV and encodings that @windowing needs at most for frames of @sizes, prompts and
 * answers of the usual length included.  FALSE with VALLEY_ERROR_MEMORY when that is more than
 * its cache_max_bytes, or than the device of a loaded model has beside the weights: the message
 * names need, bound and what would shrink it (*bytes is set). */
VALLEY_API gboolean valley_model_admits (ValleyModel *model, const ValleyWindowing *windowing,
                                         const ValleyInputSizes *sizes, guint64 *bytes,
                                         GError **error);

/* What @windowing computes over @n_windows windows of a steady stream, counted in frames without
 * any model.  Recomputing every window would prefill frames_shown. */
typedef struct {
  guint64 windows;
  guint64 frames_pushed;    /* each is encoded once */
  guint64 frames_shown;     /* to all answers together */
  guint64 frames_prefilled; /* into all sequences together */
  guint64 exact_restarts;   /* streaming */
  guint most_sequences;     /* alive at once */
} ValleyWindowingCounts;
VALLEY_API gboolean valley_windowing_count (const ValleyWindowing *windowing, guint n_windows,
                                            ValleyWindowingCounts *counts, GError **error);

/* How many frames of @sizes fit the model's context at once; windows of many more had better not
 * be pushed whole.  Works before loading. */
VALLEY_API guint valley_model_most_frames (ValleyModel *model, const ValleyInputSizes *sizes);

/* Appends a frame to the window and encodes it (both towers and the connector).  PTS must not
 * decrease.  @begins_window: a window that will be asked starts with this frame. */
VALLEY_API gboolean valley_session_push (ValleySession *session, ValleyPicture *picture,
                                         gboolean begins_window, GError **error);
/* Does the most urgent piece of work that waits (one frame's rows into one sequence); *more: call
 * again.  For idle moments: what is left undone is done by valley_session_begin when it needs it.
 * While an answer is in progress it may take room below cache_max_bytes that the answer lacks then.
 * A failure leaves the session usable. */
VALLEY_API gboolean valley_session_work (ValleySession *session, gboolean *more, GError **error);
/* No window asked from now on starts before @pts_ns: forgets older frames. */
VALLEY_API void valley_session_drop_before (ValleySession *session, guint64 pts_ns);
/* Forgets every frame, the answer in progress, previous answers and a cancellation. */
VALLEY_API void valley_session_reset (ValleySession *session);
/* Until the device has done all that was asked so far; only measuring needs it. */
VALLEY_API gboolean valley_session_wait (ValleySession *session, GError **error);
VALLEY_API guint valley_session_n_pictures (ValleySession *session);

/* What becomes of the sections that reasoning models mark in their answers: <SUMMARY>,
 * <CAPTION>, <REASONING>, <CONCLUSION>, <think>, <thinking> and <answer>.  The answer proper is
 * what stands in <CONCLUSION>, in <answer>, and in no section at all. */
typedef enum {
  VALLEY_MARKERS_KEEP,  /* the text is what the model wrote */
  VALLEY_MARKERS_STRIP, /* the text is the answer proper */
  VALLEY_MARKERS_SPLIT  /* the same, and the sections become fields of the result */
} ValleyMarkers;

typedef struct {
  const char *prompt;        /* the question; a literal "<image>" in it is plain text */
  const char *system_prompt; /* NULL: "You are a helpful assistant." */
  guint max_new_tokens;      /* 0: 100 */
  double temperature;        /* 0: greedy */
  guint top_k;               /* 0: off */
  double top_p;              /* 0 or 1: off */
  guint64 seed;
  double repetition_penalty; /* 1: off; 0: what generation_config.json says, else off */
  const char *const *stop;   /* NULL, or a NULL-terminated list: the answer ends before
                                the first of these strings */
  ValleyMarkers markers;
  guint max_frames;  /* show at most so many pictures of the window; 0: all that fit */
  gboolean no_draft; /* do not draft this answer */
  guint slot;        /* which of several questions this is: its previous answer is
                        what this one is compared with and drafted from */
} ValleyRequest;

/* Prefills the prompt over the pictures held now.  Strings are copied.
 *
 * The answer is given room for max_new_tokens, or for a quarter of the model's
 * max_position_embeddings if that is less.  If prompt and room are longer together, pictures are
 * left out evenly (the first and the last stay, of one the last; they remain in the session).
 * VALLEY_ERROR_CONTEXT: one picture and the text, which is never shortened, are too long. */
VALLEY_API gboolean valley_session_begin (ValleySession *session, const ValleyRequest *request,
                                          GError **error);

/* Which pictures valley_session_begin would show for @request: appends their PTS to @pts_ns, a
 * GArray of guint64.  For prompts that tell how many there are and when; cheap. */
VALLEY_API gboolean valley_session_fit (ValleySession *session, const ValleyRequest *request,
                                        GArray *pts_ns, GError **error);

typedef enum {
  VALLEY_STEP_TOKEN, /* a token was generated; the result's text has grown (or will) */
  VALLEY_STEP_DONE,  /* the answer is complete */
  VALLEY_STEP_ERROR
} ValleyStep;
VALLEY_API ValleyStep valley_session_next (ValleySession *session, GError **error);

typedef struct {
  const char *text;          /* valid UTF-8, never half a character; so far, while
                                VALLEY_STEP_TOKEN */
  const char *finish_reason; /* NULL while running, "stop", "length" or "cancelled" */
  double confidence;         /* geometric mean probability of the answer's tokens */
  guint n_frames;            /* that the model was shown */
  guint64 start_ns, end_ns;  /* PTS of the window's first and last frame */
  guint n_input_tokens, n_vision_tokens, n_output_tokens;
  guint n_reused_tokens; /* prompt tokens not computed since the previous answer */
  double encode_ms;      /* time spent encoding this window's new frames */
  double prefill_ms, decode_ms;
  const gint32 *input_ids; /* n_input_ids; an image slot is ONE id, -200 */
  guint n_input_ids;
  const gint32 *output_ids; /* n_output_tokens, the stop token included */
  /* With VALLEY_MARKERS_SPLIT, growing like `text`; NULL: nothing (yet). */
  const char *reasoning; /* <think>, <thinking>, <REASONING> */
  const char *summary, *caption;
  const char *conclusion;       /* <CONCLUSION>; it is in `text` too */
  guint n_frames_dropped;       /* left out: no room in max_position_embeddings, max_frames */
  guint max_new_tokens;         /* what that left of the request's, or all of it */
  const guint64 *frame_pts_ns;  /* n_frames: those that the model was shown */
  gboolean unchanged;           /* frames and question are the previous answer's, which is given
                                   again without running the model */
  guint n_vision_tokens_before; /* what n_vision_tokens would be without any reduction */
  guint n_drafted, n_accepted;  /* answer tokens proposed from the previous answer, and right */
} ValleyResult;
/* Owned by the session, valid until the next call on it. */
VALLEY_API const ValleyResult *valley_session_result (ValleySession *session);

/* What a session did since it was made. */
typedef struct {
  ValleyWindowPolicy policy; /* in effect */
  guint64 frames_pushed, frames_encoded;
  guint64 frames_unchanged;      /* that share an earlier one's encoding */
  guint64 frames_reencoded;      /* whose encoding had been evicted */
  guint64 frame_rows, text_rows; /* prefilled */
  guint64 hops, hops_unchanged;  /* answers begun; of them given again without a run */
  guint64 drafted, accepted;     /* answer tokens */
  guint64 sequences_evicted, encodings_evicted;
  guint64 kv_bytes, kv_bytes_peak, encoding_bytes, encoding_bytes_peak;
  /* Streaming, against the exact answer of the same frames: */
  guint64 drift_samples, drift_agreements;
  double drift_last, drift_mean, drift_max; /* KL (exact || streaming), in nats */
  gboolean fallen_back;                     /* drift was above max_drift */
} ValleySessionStats;
VALLEY_API void valley_session_stats (ValleySession *session, ValleySessionStats *stats);

/* With keep_logits: float32 [*n_steps, *n_vocabulary], owned by the session; else NULL. */
VALLEY_API const float *valley_session_logits (ValleySession *session, gsize *n_steps,
                                               gsize *n_vocabulary);

/* From any thread: push, work, fit, begin and next return VALLEY_ERROR_CANCELLED soon (at most one
 * layer or tile later) until valley_session_reset. */
VALLEY_API void valley_session_cancel (ValleySession *session);

/* "0.1.0" */
VALLEY_API const char *valley_version (void);

G_END_DECLS
