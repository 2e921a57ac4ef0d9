/* fake-engine.c - valley.h with a script instead of a model, for tests of the element alone.
 *
 * The model path is the script: "fake:KEY=VALUE,KEY,...", the last key may be text=REST.
 *   load=MS encode=MS prefill=MS delay=MS   time that loading, pushing a frame, begin, and all
 *                                next steps together take; every one can be cancelled
 *   gate=FILE                    no answer before this file is there
 *   gate-slot=N                  ... and only answers to that question and later ones wait for it
 *   tokens=N                     steps an answer takes (default 4)
 *   most=N                       frames that fit the context (default: any number)
 *   fit=N                        only the first N frames of a window are shown
 *   answer=N                     answers have room for N tokens at most
 *   room=N                       of a window as many as make N with the prompt's bytes
 *   fail-open fail-load fail-session        that call fails
 *   fail-window=N fail-frame=N   the N-th (from 0) begin or push of the session fails
 *   fail-slot=N                  every begin of that question fails
 *   lose-window=N lose-frame=N   the N-th (from 0) begin or push under this script loses the
 *                                device: the model's every call fails until it is opened again
 *   lose-times=N                 ... and so do the next ones that the model, opened again, is
 *                                asked for, N in all (default 1)
 *   lose-every=N                 ... or only every N-th of those
 *   lose-load                    the model that is opened after that cannot be loaded
 *   reload=MS                    or takes so long to
 *   full=N                       or finds no memory the first N times
 *   work=N unit=MS               a push leaves N pieces of work, each of which takes so long;
 *                                begin takes as long as what is left
 *   still                        an answer equal to the question's last one is `unchanged`
 *   tally                        every count of results and statistics is another number
 *   fall=N                       the N-th (from 0) answer under `streaming` makes it fall back
 *   show=luma|rgb|corners|pts|sizes         what the answer says of the window's frames
 *   echo echo-system system-first           the answer is the prompt, the system prompt, or the
 *                                system prompt that the session was made for
 *   windowing                    the answer is the windowing and the work done when idle:
 *                                "POLICY W H BYTES DRIFT CHANGE DRAFT work N"
 *   text=REST                    the answer, percent-encoded; REST may hold commas
 * Pictures are resized by the real engine's code.  `anchored` keeps 2W frames at most and then
 * goes on with the newest W; in all other policies a window has its own frames.
 * By default the answer is show=luma: "f4 0,0,255,255", the frame count and each frame's mean.
 * SPDX-License-Identifier: Apache-2.0 */
#include "markers.h"
#include "valley.h"

#include <string.h>

#define SIGLIP_SIDE 32
#define EAGLE_CELL 28
#define FRAME_TOKENS 8   /* 2 at least, with both reducers */
#define FRAME_BYTES 1000 /* of encoding and KV, as far as admission goes */

struct _ValleyModel {
  char *script; /* its key in `used` */
  gint lost;    /* atomic */
  char *text, *show, *gate;
  guint load_ms, reload_ms, full, encode_ms, prefill_ms, delay_ms, unit_ms, tokens, fit, room, answer, work;
  gint fail_window, fail_frame, fail_slot, fall, lose_window, lose_frame, lose_times, lose_every;
  guint gate_slot, most;
  gboolean fail_load, fail_session, lose_load, echo, echo_system, system_first, windowing, still, tally;
};

struct _ValleyPicture {
  guint64 pts;
  gsize bytes;
  guint eagle_width, eagle_height, n_tokens, n_tokens_before;
  guint8 rgb[SIGLIP_SIDE * SIGLIP_SIDE * 3];
};

struct _ValleySession {
  ValleyModel *model;
  GQueue pictures;
  GMutex lock;
  GCond cond;
  gboolean cancelled;
  gint n_begun, n_pushed;
  char *system_prompt;
  guint steps;
  char *text;
  ValleyMarkers markers;
  ValleySections sections; /* of `text`, once it is complete */
  ValleyResult result;
  ValleyWindowing windowing;
  double change_threshold;
  GArray *pts;          /* of the frames that the answer in progress is about */
  guint n_waiting;      /* pieces of work ... */
  guint64 n_worked;     /* ... and how many were done in idle moments */
  GHashTable *previous; /* by slot: its last answer */
  guint64 n_unchanged;
  gboolean fallen_back;
};

G_DEFINE_QUARK (valley - error - quark, valley_error)

const char *
valley_version (void)
{
  return "fake";
}

char *
valley_default_model_dir (void)
{
  return g_strdup ("fake:");
}

/* ---- the script ---------------------------------------------------------- */

static void
set_key (ValleyModel *model, const char *key, const char *value)
{
  guint number = (guint) g_ascii_strtoull (value, NULL, 10);

  if (g_str_equal (key, "load"))
    model->load_ms = number;
  else if (g_str_equal (key, "reload"))
    model->reload_ms = number;
  else if (g_str_equal (key, "full"))
    model->full = number;
  else if (g_str_equal (key, "encode"))
    model->encode_ms = number;
  else if (g_str_equal (key, "prefill"))
    model->prefill_ms = number;
  else if (g_str_equal (key, "delay"))
    model->delay_ms = number;
  else if (g_str_equal (key, "gate"))
    model->gate = g_strdup (value);
  else if (g_str_equal (key, "tokens"))
    model->tokens = MAX (number, 1);
  else if (g_str_equal (key, "most"))
    model->most = number;
  else if (g_str_equal (key, "fit"))
    model->fit = number;
  else if (g_str_equal (key, "answer"))
    model->answer = number;
  else if (g_str_equal (key, "room"))
    model->room = number;
  else if (g_str_equal (key, "fail-load"))
    model->fail_load = TRUE;
  else if (g_str_equal (key, "fail-session"))
    model->fail_session = TRUE;
  else if (g_str_equal (key, "fail-window"))
    model->fail_window = (gint) number;
  else if (g_str_equal (key, "fail-frame"))
    model->fail_frame = (gint) number;
  else if (g_str_equal (key, "gate-slot"))
    model->gate_slot = number;
  else if (g_str_equal (key, "fail-slot"))
    model->fail_slot = (gint) number;
  else if (g_str_equal (key, "lose-window"))
    model->lose_window = (gint) number;
  else if (g_str_equal (key, "lose-frame"))
    model->lose_frame = (gint) number;
  else if (g_str_equal (key, "lose-times"))
    model->lose_times = (gint) number;
  else if (g_str_equal (key, "lose-every"))
    model->lose_every = MAX ((gint) number, 1);
  else if (g_str_equal (key, "lose-load"))
    model->lose_load = TRUE;
  else if (g_str_equal (key, "fall"))
    model->fall = (gint) number;
  else if (g_str_equal (key, "work"))
    model->work = number;
  else if (g_str_equal (key, "unit"))
    model->unit_ms = number;
  else if (g_str_equal (key, "windowing"))
    model->windowing = TRUE;
  else if (g_str_equal (key, "tally"))
    model->tally = TRUE;
  else if (g_str_equal (key, "still"))
    model->still = TRUE;
  else if (g_str_equal (key, "echo"))
    model->echo = TRUE;
  else if (g_str_equal (key, "echo-system"))
    model->echo_system = TRUE;
  else if (g_str_equal (key, "system-first"))
    model->system_first = TRUE;
  else if (g_str_equal (key, "show"))
    model->show = g_strdup (value);
  else
    g_error ("fake engine: unknown key \"%s\"", key);
}

static void
run_script (ValleyModel *model, const char *script)
{
  const char *text = g_str_has_prefix (script, "text=") ? script : strstr (script, ",text=");
  g_autofree char *keys
      = g_strndup (script, text != NULL ? (gsize) (text - script) : strlen (script));
  g_auto (GStrv) pairs = g_strsplit (keys, ",", -1);

  if (text != NULL)
    model->text = g_uri_unescape_string (strchr (text, '=') + 1, NULL);
  for (guint i = 0; pairs[i] != NULL; i++) {
    char *value = strchr (pairs[i], '=');

    if (value != NULL)
      *value++ = '\0';
    if (*pairs[i] != '\0')
      set_key (model, pairs[i], value != NULL ? value : "");
  }
}

/* ---- losing the device --------------------------------------------------- */

/* What was done under a script by all of its models together. */
typedef struct {
  gint n_begun, n_pushed, n_lost;
} Used;

static GMutex used_lock;
static GHashTable *used;

/* One more begin, or push: whether it is one that loses the device. */
static gboolean
is_loss (ValleyModel *model, gboolean begin)
{
  Used *count;
  gint number, first = begin ? model->lose_window : model->lose_frame;
  gboolean lost;

  g_mutex_lock (&used_lock);
  if (used == NULL)
    used = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
  count = g_hash_table_lookup (used, model->script);
  if (count == NULL) {
    count = g_new0 (Used, 1);
    g_hash_table_insert (used, g_strdup (model->script), count);
  }
  number = begin ? count->n_begun++ : count->n_pushed++;
  lost = !g_atomic_int_get (&model->lost) && first >= 0 && number >= first
         && (number - first) % model->lose_every == 0 && count->n_lost < model->lose_times;
  count->n_lost += lost;
  g_mutex_unlock (&used_lock);
  if (lost)
    g_atomic_int_set (&model->lost, TRUE);
  return lost;
}

static gboolean
was_lost (const char *script)
{
  const Used *count;
  gboolean lost;

  g_mutex_lock (&used_lock);
  count = used != NULL ? g_hash_table_lookup (used, script) : NULL;
  lost = count != NULL && count->n_lost > 0;
  g_mutex_unlock (&used_lock);
  return lost;
}

static gboolean
check_lost (ValleyModel *model, GError **error)
{
  if (!g_atomic_int_get (&model->lost))
    return TRUE;
  g_set_error_literal (error, VALLEY_ERROR, VALLEY_ERROR_DEVICE, "the device is lost");
  return FALSE;
}

gboolean
valley_model_is_lost (ValleyModel *model)
{
  return g_atomic_int_get (&model->lost);
}

ValleyModel *
valley_model_open_again (ValleyModel *model, gpointer cuda_context, GObject *cuda_context_owner,
                         GError **error)
{
  return valley_model_open (model->script, NULL, error);
}

const char *
valley_model_device (ValleyModel *model)
{
  return "fake";
}

/* ---- model --------------------------------------------------------------- */

ValleyModel *
valley_model_open (const char *dir, const ValleyModelOptions *options, GError **error)
{
  ValleyModel *model;

  if (!g_str_has_prefix (dir, "fake:")) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_NOT_FOUND,
                 "%s/config.json: no such file: expected a checkpoint folder", dir);
    return NULL;
  }
  if (strstr (dir, "fail-open") != NULL) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_CONFIG,
                 "%s/config.json: hidden_size: expected a positive number", dir);
    return NULL;
  }
  model = g_atomic_rc_box_new0 (ValleyModel);
  model->tokens = 4;
  model->fail_window = model->fail_frame = model->fail_slot = model->fall = -1;
  model->lose_window = model->lose_frame = -1;
  model->lose_times = model->lose_every = 1;
  model->script = g_strdup (dir);
  run_script (model, dir + strlen ("fake:"));
  return model;
}

ValleyModel *
valley_model_ref (ValleyModel *model)
{
  return g_atomic_rc_box_acquire (model);
}

static void
model_clear (gpointer data)
{
  ValleyModel *model = data;

  g_free (model->script);
  g_free (model->text);
  g_free (model->show);
  g_free (model->gate);
}

void
valley_model_unref (ValleyModel *model)
{
  if (model != NULL)
    g_atomic_rc_box_release_full (model, model_clear);
}

gboolean
valley_model_load (ValleyModel *model, GCancellable *cancellable, GError **error)
{
  gboolean again = was_lost (model->script);
  guint ms = again ? model->reload_ms : model->load_ms;
  gint64 end = g_get_monotonic_time () + ms * G_TIME_SPAN_MILLISECOND;

  while (g_get_monotonic_time () < end && !g_cancellable_is_cancelled (cancellable))
    g_usleep (1000);
  if (g_cancellable_is_cancelled (cancellable)) {
    g_set_error_literal (error, VALLEY_ERROR, VALLEY_ERROR_CANCELLED, "loading was cancelled");
    return FALSE;
  }
  if (again && model->full > 0) {
    model->full--;
    g_set_error_literal (error, VALLEY_ERROR, VALLEY_ERROR_MEMORY, "the device is full");
    return FALSE;
  }
  if (model->lose_load && again) {
    g_set_error_literal (error, VALLEY_ERROR, VALLEY_ERROR_DEVICE, "no device is left");
    return FALSE;
  }
  if (model->fail_load) {
    g_set_error_literal (error, VALLEY_ERROR, VALLEY_ERROR_TENSOR,
                         "model.safetensors: model.norm.weight: expected [64], found [63]");
    return FALSE;
  }
  return TRUE;
}

gboolean
valley_model_input_sizes (ValleyModel *model, guint width, guint height,
                          const ValleyReduction *reduction, ValleyInputSizes *sizes, GError **error)
{
  if (width == 0 || height == 0) {
    g_set_error_literal (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT, "a picture of no size");
    return FALSE;
  }
  *sizes = (ValleyInputSizes){ .siglip_width = SIGLIP_SIDE,
                               .siglip_height = SIGLIP_SIDE,
                               .n_tokens = FRAME_TOKENS,
                               .n_tokens_before = FRAME_TOKENS };
  if (reduction != NULL && reduction->max_vision_tokens > 0 && reduction->pool && reduction->eagle)
    sizes->n_tokens = CLAMP (reduction->max_vision_tokens / reduction->max_frames, 2, FRAME_TOKENS);
  sizes->eagle_height = 2 * EAGLE_CELL;
  sizes->eagle_width = EAGLE_CELL * CLAMP ((2 * width + height / 2) / height, 1, 16);
  return TRUE;
}

char *
valley_inspect (const char *dir, gboolean json, gboolean *complete, GError **error)
{
  g_set_error_literal (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT, "nothing to inspect");
  return NULL;
}

/* ---- pictures ------------------------------------------------------------ */

ValleyPicture *
valley_picture_new (ValleyModel *model, guint64 pts_ns, const ValleyInputSizes *sizes,
                    const guint8 *siglip_rgb, const guint8 *eagle_rgb, GError **error)
{
  ValleyPicture *picture = g_atomic_rc_box_new0 (ValleyPicture);

  picture->pts = pts_ns;
  picture->eagle_width = sizes->eagle_width;
  picture->eagle_height = sizes->eagle_height;
  picture->n_tokens = sizes->n_tokens;
  picture->n_tokens_before = sizes->n_tokens_before;
  picture->bytes = sizeof (picture->rgb) + 3 * sizes->eagle_width * sizes->eagle_height;
  memcpy (picture->rgb, siglip_rgb, sizeof (picture->rgb));
  return picture;
}

/* The script runs on the host. */
gboolean
valley_model_takes_device_frames (ValleyModel *model, GError **error)
{
  return FALSE;
}

gpointer
valley_model_cuda_context (ValleyModel *model)
{
  return NULL;
}

ValleyPicture *
valley_picture_new_from_device (ValleyModel *model, guint64 pts_ns, const ValleyInputSizes *sizes,
                                const ValleyDeviceFrame *frame, GError **error)
{
  g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT, "the script has no device");
  return NULL;
}

ValleyPicture *
valley_picture_ref (ValleyPicture *picture)
{
  return g_atomic_rc_box_acquire (picture);
}

void
valley_picture_unref (ValleyPicture *picture)
{
  if (picture != NULL)
    g_atomic_rc_box_release (picture);
}

guint64
valley_picture_pts_ns (const ValleyPicture *picture)
{
  return picture->pts;
}

gsize
valley_picture_bytes (const ValleyPicture *picture)
{
  return picture->bytes;
}

/* ---- session ------------------------------------------------------------- */

ValleySession *
valley_session_new (ValleyModel *model, const ValleySessionOptions *options, GError **error)
{
  ValleySession *session;

  if (model->fail_session) {
    g_set_error_literal (error, VALLEY_ERROR, VALLEY_ERROR_MEMORY, "no memory for a session");
    return NULL;
  }
  session = g_new0 (ValleySession, 1);
  session->model = valley_model_ref (model);
  session->pts = g_array_new (FALSE, FALSE, sizeof (guint64));
  session->previous = g_hash_table_new_full (NULL, NULL, NULL, g_free);
  session->change_threshold = options != NULL ? options->change_threshold : 0;
  session->system_prompt = g_strdup (
      options != NULL && options->system_prompt != NULL ? options->system_prompt : "none");
  g_mutex_init (&session->lock);
  g_cond_init (&session->cond);
  return session;
}

void
valley_session_reset (ValleySession *session)
{
  g_mutex_lock (&session->lock);
  session->cancelled = FALSE;
  g_mutex_unlock (&session->lock);
  g_queue_clear_full (&session->pictures, (GDestroyNotify) valley_picture_unref);
}

void
valley_session_free (ValleySession *session)
{
  if (session == NULL)
    return;
  valley_session_reset (session);
  valley_model_unref (session->model);
  g_mutex_clear (&session->lock);
  g_cond_clear (&session->cond);
  valley_sections_clear (&session->sections);
  g_array_unref (session->pts);
  g_hash_table_unref (session->previous);
  g_free (session->system_prompt);
  g_free (session->text);
  g_free (session);
}

void
valley_session_cancel (ValleySession *session)
{
  g_mutex_lock (&session->lock);
  session->cancelled = TRUE;
  g_cond_broadcast (&session->cond);
  g_mutex_unlock (&session->lock);
}

static gboolean
pass_time (ValleySession *session, guint ms, GError **error)
{
  gint64 end = g_get_monotonic_time () + ms * G_TIME_SPAN_MILLISECOND;
  gboolean cancelled;

  g_mutex_lock (&session->lock);
  while (!session->cancelled && ms > 0 && g_cond_wait_until (&session->cond, &session->lock, end))
    ;
  cancelled = session->cancelled;
  g_mutex_unlock (&session->lock);
  if (cancelled)
    g_set_error_literal (error, VALLEY_ERROR, VALLEY_ERROR_CANCELLED, "cancelled");
  return !cancelled;
}

/* For tests that must have done something before the answer comes, however slow the machine. */
static gboolean
pass_gate (ValleySession *session, guint slot, GError **error)
{
  const char *gate = session->model->gate;

  while (gate != NULL && slot >= session->model->gate_slot
         && !g_file_test (gate, G_FILE_TEST_EXISTS))
    if (!pass_time (session, 10, error))
      return FALSE;
  return TRUE;
}

gboolean
valley_session_push (ValleySession *session, ValleyPicture *picture, gboolean begins_window,
                     GError **error)
{
  ValleyPicture *last = g_queue_peek_tail (&session->pictures);

  if (!pass_time (session, session->model->encode_ms, error))
    return FALSE;
  is_loss (session->model, FALSE);
  if (!check_lost (session->model, error))
    return FALSE;
  if (session->n_pushed++ == session->model->fail_frame) {
    g_set_error_literal (error, VALLEY_ERROR, VALLEY_ERROR_DEVICE, "this frame fails");
    return FALSE;
  }
  if (last != NULL && last->pts > picture->pts) {
    g_set_error_literal (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT, "PTS goes back");
    return FALSE;
  }
  g_queue_push_tail (&session->pictures, valley_picture_ref (picture));
  session->n_waiting += session->model->work;
  return TRUE;
}

void
valley_session_drop_before (ValleySession *session, guint64 pts_ns)
{
  gboolean anchored = session->windowing.policy == VALLEY_WINDOWS_ANCHORED;
  ValleyPicture *first;

  if (anchored && session->pictures.length <= 2 * session->windowing.window_frames)
    return;
  while ((first = g_queue_peek_head (&session->pictures)) != NULL && first->pts < pts_ns)
    valley_picture_unref (g_queue_pop_head (&session->pictures));
}

gboolean
valley_session_set_windowing (ValleySession *session, const ValleyWindowing *windowing,
                              GError **error)
{
  session->windowing = *windowing;
  return TRUE;
}

gboolean
valley_session_set_change_threshold (ValleySession *session, double change_threshold,
                                     GError **error)
{
  session->change_threshold = change_threshold;
  return TRUE;
}

gboolean
valley_model_admits (ValleyModel *model, const ValleyWindowing *windowing,
                     const ValleyInputSizes *sizes, guint64 *bytes, GError **error)
{
  guint w = windowing->window_frames, h = MAX (windowing->hop_frames, 1);
  const guint sequences[] = { [VALLEY_WINDOWS_TUMBLING] = 1,
                              [VALLEY_WINDOWS_ANCHORED] = 3,
                              [VALLEY_WINDOWS_SLIDING] = (w + h - 1) / h,
                              [VALLEY_WINDOWS_STREAMING] = 2 };

  *bytes = (guint64) w * sequences[windowing->policy] * FRAME_BYTES;
  if (windowing->cache_max_bytes == 0 || *bytes <= windowing->cache_max_bytes)
    return TRUE;
  g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_MEMORY,
               "%u frames need %" G_GUINT64_FORMAT " bytes: expected at most %" G_GUINT64_FORMAT,
               windowing->window_frames, *bytes, windowing->cache_max_bytes);
  return FALSE;
}

guint
valley_model_most_frames (ValleyModel *model, const ValleyInputSizes *sizes)
{
  return model->most > 0 ? model->most : G_MAXUINT;
}

gboolean
valley_session_work (ValleySession *session, gboolean *more, GError **error)
{
  *more = FALSE;
  if (!check_lost (session->model, error))
    return FALSE;
  if (session->n_waiting == 0 || !pass_time (session, session->model->unit_ms, error))
    return session->n_waiting == 0;
  session->n_worked++;
  *more = --session->n_waiting > 0;
  return TRUE;
}

void
valley_session_stats (ValleySession *session, ValleySessionStats *stats)
{
  *stats = (ValleySessionStats){ .policy = session->windowing.policy,
                                 .frames_pushed = (guint64) session->n_pushed,
                                 .frames_encoded = (guint64) session->n_pushed,
                                 .frame_rows = session->n_worked,
                                 .hops = (guint64) session->n_begun,
                                 .hops_unchanged = session->n_unchanged,
                                 .fallen_back = session->fallen_back };
  if (session->model->tally)
    *stats = (ValleySessionStats){ .policy = VALLEY_WINDOWS_SLIDING,
                                   .frames_pushed = 1,
                                   .frames_encoded = 2,
                                   .frames_unchanged = 3,
                                   .frames_reencoded = 4,
                                   .frame_rows = 5,
                                   .text_rows = 6,
                                   .hops = 7,
                                   .hops_unchanged = 8,
                                   .drafted = 9,
                                   .accepted = 10,
                                   .sequences_evicted = 11,
                                   .encodings_evicted = 12,
                                   .kv_bytes = 13,
                                   .kv_bytes_peak = 14,
                                   .encoding_bytes = 15,
                                   .encoding_bytes_peak = 16,
                                   .drift_samples = 17,
                                   .drift_agreements = 18,
                                   .drift_last = 0.25,
                                   .drift_mean = 0.5,
                                   .drift_max = 0.75 };
}

guint
valley_session_n_pictures (ValleySession *session)
{
  return session->pictures.length;
}

/* ---- answers ------------------------------------------------------------- */

static void
mean_rgb (const ValleyPicture *picture, guint x0, guint y0, guint side, guint mean[3])
{
  guint sum[3] = { 0 };

  for (guint y = y0; y < y0 + side; y++)
    for (guint x = x0; x < x0 + side; x++)
      for (guint c = 0; c < 3; c++)
        sum[c] += picture->rgb[3 * (y * SIGLIP_SIDE + x) + c];
  for (guint c = 0; c < 3; c++)
    mean[c] = (sum[c] + side * side / 2) / (side * side);
}

static void
describe (GString *out, const ValleyPicture *picture, const char *show)
{
  guint rgb[3];

  mean_rgb (picture, 0, 0, SIGLIP_SIDE, rgb);
  if (show == NULL || g_str_equal (show, "luma")) {
    g_string_append_printf (out, "%u", (rgb[0] + rgb[1] + rgb[2] + 1) / 3);
  } else if (g_str_equal (show, "rgb")) {
    g_string_append_printf (out, "%u/%u/%u", rgb[0], rgb[1], rgb[2]);
  } else if (g_str_equal (show, "pts")) {
    g_string_append_printf (out, "%" G_GUINT64_FORMAT, picture->pts / 1000000);
  } else if (g_str_equal (show, "sizes")) {
    g_string_append_printf (out, "%ux%u", picture->eagle_width, picture->eagle_height);
  } else { /* corners: top left, top right, bottom left, bottom right */
    for (guint i = 0; i < 4; i++) {
      mean_rgb (picture, i % 2 * (SIGLIP_SIDE - 4), i / 2 * (SIGLIP_SIDE - 4), 4, rgb);
      g_string_append_printf (out, "%s%u/%u/%u", i > 0 ? " " : "", rgb[0], rgb[1], rgb[2]);
    }
  }
}

static char *
describe_windowing (const ValleySession *session, const ValleyRequest *request)
{
  static const char *const names[] = { "tumbling", "anchored", "sliding", "streaming" };
  const ValleyWindowing *windowing = &session->windowing;

  return g_strdup_printf ("%s %u %u %" G_GUINT64_FORMAT " %g %g %s work %" G_GUINT64_FORMAT,
                          names[windowing->policy], windowing->window_frames, windowing->hop_frames,
                          windowing->cache_max_bytes, windowing->max_drift,
                          session->change_threshold, request->no_draft ? "no" : "yes",
                          session->n_worked);
}

static char *
answer (ValleySession *session, const ValleyRequest *request)
{
  const ValleyModel *model = session->model;
  GString *out;

  if (model->text != NULL)
    return g_strdup (model->text);
  if (model->echo)
    return g_strdup (request->prompt);
  if (model->echo_system)
    return g_strdup (request->system_prompt != NULL ? request->system_prompt : "");
  if (model->system_first)
    return g_strdup (session->system_prompt);
  if (model->windowing)
    return describe_windowing (session, request);
  out = g_string_new (NULL);
  g_string_append_printf (out, "f%u ", session->pictures.length);
  for (GList *l = session->pictures.head; l != NULL; l = l->next) {
    describe (out, l->data, model->show);
    g_string_append (out, l->next != NULL ? "," : "");
  }
  return g_string_free (out, FALSE);
}

gboolean
valley_session_fit (ValleySession *session, const ValleyRequest *request, GArray *pts_ns,
                    GError **error)
{
  const ValleyModel *model = session->model;
  gsize length = strlen (request->prompt);
  guint most = request->max_frames > 0 ? request->max_frames : G_MAXUINT;

  if (model->room > 0 && length >= model->room) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_CONTEXT, "%" G_GSIZE_FORMAT " bytes of prompt",
                 length);
    return FALSE;
  }
  if (model->room > 0)
    most = (guint) MIN (most, model->room - length);
  if (model->fit > 0)
    most = MIN (most, model->fit);
  for (GList *l = session->pictures.head; l != NULL && pts_ns->len < most; l = l->next)
    g_array_append_val (pts_ns, ((ValleyPicture *) l->data)->pts);
  return TRUE;
}

/* Whether the answer is the slot's last one, which it then is. */
static gboolean
is_previous (ValleySession *session, guint slot)
{
  const char *previous = g_hash_table_lookup (session->previous, GUINT_TO_POINTER (slot));
  gboolean same = g_strcmp0 (previous, session->text) == 0;

  session->n_unchanged += same;
  g_hash_table_insert (session->previous, GUINT_TO_POINTER (slot), g_strdup (session->text));
  return same;
}

gboolean
valley_session_begin (ValleySession *session, const ValleyRequest *request, GError **error)
{
  const ValleyPicture *first = g_queue_peek_head (&session->pictures);
  const ValleyPicture *last = g_queue_peek_tail (&session->pictures);
  guint n = session->pictures.length;
  guint ms = session->model->prefill_ms + session->n_waiting * session->model->unit_ms;

  if (!pass_gate (session, request->slot, error) || !pass_time (session, ms, error))
    return FALSE;
  session->n_waiting = 0;
  is_loss (session->model, TRUE);
  if (!check_lost (session->model, error))
    return FALSE;
  if (session->n_begun++ == session->model->fail_window
      || (gint) request->slot == session->model->fail_slot) {
    g_set_error_literal (error, VALLEY_ERROR, VALLEY_ERROR_CONTEXT,
                         "40000 tokens: expected at most 32768");
    return FALSE;
  }
  if (first == NULL) {
    g_set_error_literal (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT, "no frame in the window");
    return FALSE;
  }
  g_free (session->text);
  session->text = answer (session, request);
  session->markers = request->markers;
  session->steps = 0;
  g_array_set_size (session->pts, 0);
  if (!valley_session_fit (session, request, session->pts, error))
    return FALSE;
  session->result
      = (ValleyResult){ .text = "",
                        .n_frames = session->pts->len,
                        .frame_pts_ns = (const guint64 *) session->pts->data,
                        .start_ns = first->pts,
                        .end_ns = last->pts,
                        .confidence = 0.5,
                        .n_input_tokens = 10,
                        .max_new_tokens = session->model->answer > 0 ? MIN (session->model->answer,
                                                                            request->max_new_tokens)
                                                                     : request->max_new_tokens,
                        .n_frames_dropped = n - session->pts->len,
                        .unchanged = session->model->still && is_previous (session, request->slot),
                        .encode_ms = session->model->encode_ms,
                        .prefill_ms = session->model->prefill_ms };
  for (GList *l = session->pictures.head; l != NULL; l = l->next) {
    const ValleyPicture *picture = l->data;

    session->result.n_input_tokens += picture->n_tokens;
    session->result.n_vision_tokens += picture->n_tokens;
    session->result.n_vision_tokens_before += picture->n_tokens_before;
  }
  if (session->model->tally) {
    session->result.n_reused_tokens = 1;
    session->result.n_drafted = 3;
    session->result.n_accepted = 2;
  }
  if (session->windowing.policy == VALLEY_WINDOWS_STREAMING
      && session->n_begun - 1 == session->model->fall) {
    session->windowing.policy = VALLEY_WINDOWS_ANCHORED;
    session->fallen_back = TRUE;
  }
  return TRUE;
}

static const char *
field (const ValleySession *session, ValleyField which)
{
  const GString *text = session->sections.fields[which];

  return session->markers == VALLEY_MARKERS_SPLIT && text->len > 0 ? text->str : NULL;
}

/* What the engine makes of the markers in its answer. */
static void
describe_sections (ValleySession *session)
{
  ValleyResult *result = &session->result;

  valley_sections_clear (&session->sections);
  valley_sections_init (&session->sections);
  valley_sections_add (&session->sections, session->text);
  valley_sections_finish (&session->sections, FALSE);
  result->text = session->markers == VALLEY_MARKERS_KEEP
                     ? session->text
                     : session->sections.fields[VALLEY_FIELD_RESULT]->str;
  result->reasoning = field (session, VALLEY_FIELD_REASONING);
  result->summary = field (session, VALLEY_FIELD_SUMMARY);
  result->caption = field (session, VALLEY_FIELD_CAPTION);
  result->conclusion = field (session, VALLEY_FIELD_CONCLUSION);
}

ValleyStep
valley_session_next (ValleySession *session, GError **error)
{
  const ValleyModel *model = session->model;

  if (!pass_time (session, model->delay_ms / model->tokens, error)
      || !check_lost (session->model, error))
    return VALLEY_STEP_ERROR;
  session->result.n_output_tokens = ++session->steps;
  if (session->steps < model->tokens)
    return VALLEY_STEP_TOKEN;
  describe_sections (session);
  session->result.finish_reason = "stop";
  session->result.decode_ms = model->delay_ms;
  return VALLEY_STEP_DONE;
}

const ValleyResult *
valley_session_result (ValleySession *session)
{
  return &session->result;
}
