/* test-device-frames.c - pictures of frames that lie on the device: the host's pictures of the same
 * frames, to the byte, with the same encodings, bit by bit, also when they are encoded again; what
 * counts as unchanged; and when the frame's memory may change.  On the stand-in for CUDA.
 * SPDX-License-Identifier: Apache-2.0 */
#include <cuda_runtime.h>

#include "emu.h"
#include "engine-fixture.h"

#include "compare.h"
#include "which-device.h"

/* The driver's calls for contexts, of the stand-in's. */
struct CUctx_st;
int cuCtxCreate_v2 (struct CUctx_st **context, unsigned flags, int device);
int cuCtxDestroy_v2 (struct CUctx_st *context);

#define WIDTH 90
#define HEIGHT 70

static struct CUctx_st *context; /* of the frames, and of the model */
static cudaStream_t stream;

static void
check_cuda (int code)
{
  if (code != cudaSuccess)
    g_error ("CUDA error %d: %s", code, emu_take_fault ());
}

/* A model in the frames' context, with one session. */
static void
setup (Fixture *f, gconstpointer data)
{
  g_autofree char *dir = golden_dir ("ovis-softmax");
  ValleyModelOptions options
      = { .device = test_device (), .precision = VALLEY_PRECISION_F32, .cuda_context = context };
  GError *error = NULL;

  f->model = valley_model_open (dir, &options, &error);
  g_assert_no_error (error);
  valley_model_load (f->model, NULL, &error);
  g_assert_no_error (error);
  f->session
      = valley_session_new (f->model, &(ValleySessionOptions){ .keep_logits = TRUE }, &error);
  g_assert_no_error (error);
  g_assert_true (valley_model_cuda_context (f->model) == context);
}

/* ---- frames ---- */

/* NV12, or RGBA, on the host and on the device. */
typedef struct {
  gsize bytes;
  guint8 *host, *device;
  ValleyVideo video; /* of the host's */
  ValleyRgbImage rgb;
  gboolean is_rgb;
} Frame;

static const double bt709[3][4] = { { 1.1644, 0, 1.7927, -248.10 },
                                    { 1.1644, -0.2132, -0.5329, 76.88 },
                                    { 1.1644, 2.1124, 0, -289.02 } };

static void
describe_nv12 (ValleyVideo *video, const guint8 *data)
{
  *video = (ValleyVideo){
    .bits = 8,
    .n_planes = 2,
    .n_components = 3,
    .planes = { { data, WIDTH, WIDTH, HEIGHT, 0, HEIGHT },
                { data + WIDTH * HEIGHT, WIDTH, WIDTH, HEIGHT / 2, 0, HEIGHT / 2.0 } },
    .components = { { 0, 0, 1, WIDTH, 0, WIDTH },
                    { 1, 0, 2, WIDTH / 2, 0.25, WIDTH / 2.0 },
                    { 1, 1, 2, WIDTH / 2, 0.25, WIDTH / 2.0 } },
  };
  memcpy (video->matrix, bt709, sizeof bt709);
}

static void
upload (const Frame *frame)
{
  check_cuda (
      cudaMemcpyAsync (frame->device, frame->host, frame->bytes, cudaMemcpyHostToDevice, stream));
  check_cuda (cudaStreamSynchronize (stream));
}

static Frame
frame_new (gboolean is_rgb)
{
  Frame frame = { .bytes = is_rgb ? 4 * WIDTH * HEIGHT : WIDTH * HEIGHT * 3 / 2, .is_rgb = is_rgb };

  frame.host = g_malloc (frame.bytes);
  for (gsize i = 0; i < frame.bytes; i++)
    frame.host[i] = (guint8) g_rand_int (rng);
  check_cuda (cudaMalloc ((void **) &frame.device, frame.bytes));
  upload (&frame);
  describe_nv12 (&frame.video, frame.host);
  frame.rgb = (ValleyRgbImage){ frame.host, 4 * WIDTH, WIDTH, HEIGHT, 4, { 2, 1, 0 } };
  return frame;
}

static void
frame_clear (Frame *frame)
{
  check_cuda (cudaFree (frame->device));
  g_free (frame->host);
}

static ValleyInputSizes
sizes_for (ValleyModel *model)
{
  ValleyInputSizes sizes;

  g_assert_true (valley_model_input_sizes (model, WIDTH, HEIGHT, NULL, &sizes, NULL));
  return sizes;
}

/* As the plugin makes it of a frame in the host's memory. */
static ValleyPicture *
picture_of_host (ValleyModel *model, const Frame *frame, guint64 pts)
{
  ValleyVideoScaler *scaler = valley_video_scaler_new ();
  ValleyInputSizes s = sizes_for (model);
  g_autofree guint8 *siglip = g_malloc (3 * (gsize) s.siglip_width * s.siglip_height);
  g_autofree guint8 *eagle = g_malloc (3 * (gsize) s.eagle_width * s.eagle_height);
  ValleyVideoOutput outputs[]
      = { { siglip, s.siglip_width, s.siglip_height }, { eagle, s.eagle_width, s.eagle_height } };
  GError *error = NULL;
  ValleyPicture *picture;

  g_assert_true (frame->is_rgb ? valley_image_resize_rgb (&frame->rgb, outputs, 2)
                               : valley_video_scaler_paint (scaler, &frame->video, outputs, 2));
  picture = valley_picture_new (model, pts, &s, siglip, eagle, &error);
  g_assert_no_error (error);
  valley_video_scaler_free (scaler);
  return picture;
}

static ValleyPicture *
try_picture (ValleyModel *model, const Frame *frame, guint64 pts, gpointer ready, GError **error)
{
  ValleyInputSizes sizes = sizes_for (model);
  ValleyVideo video;
  ValleyRgbImage rgb = frame->rgb;
  ValleyDeviceFrame on_device = { .ready = ready };

  describe_nv12 (&video, frame->device);
  rgb.data = frame->device;
  if (frame->is_rgb)
    on_device.rgb = &rgb;
  else
    on_device.video = &video;
  return valley_picture_new_from_device (model, pts, &sizes, &on_device, error);
}

static ValleyPicture *
picture_of_device (ValleyModel *model, const Frame *frame, guint64 pts)
{
  GError *error = NULL;
  ValleyPicture *picture = try_picture (model, frame, pts, NULL, &error);

  g_assert_no_error (error);
  return picture;
}

/* ---- the same as the host's ---- */

static void
assert_same_pixels (Fixture *f, const ValleyPicture *device, const ValleyPicture *host)
{
  ValleyBackend *backend = f->model->backend;
  const guint8 *want[] = { host->siglip_rgb, host->eagle_rgb };
  GError *error = NULL;
  ValleyStream *s = backend->ops->stream_new (backend, &error);

  g_assert_no_error (error);
  for (guint i = 0; i < VALLEY_N_IMAGES; i++) {
    const ValleyDeviceImage *image = &device->device->images[i];
    gsize bytes = 3 * (gsize) image->width * image->height;
    g_autofree guint8 *got = g_malloc (bytes);

    g_assert_cmpuint (bytes, >, 0);
    g_assert_true (backend->ops->pictures->download (s, image->rgb, got, bytes, &error));
    g_assert_cmpmem (got, bytes, want[i], bytes);
  }
  backend->ops->stream_free (s);
}

/* Its rows in f32, to free. */
static float *
encode (Fixture *f, const ValleyPicture *picture, gsize *n)
{
  ValleyBackend *backend = f->model->backend;
  GError *error = NULL;
  ValleyStream *s = backend->ops->stream_new (backend, &error);
  ValleyTensor rows;
  float *values;

  g_assert_no_error (error);
  valley_encode_picture (f->model, s, picture, 0, NULL, &rows);
  *n = rows.rows * rows.cols;
  values = g_new (float, *n);
  g_assert_true (backend->ops->download (s, &rows, values, &error));
  g_assert_no_error (error);
  valley_tensor_clear (backend, &rows);
  backend->ops->stream_free (s);
  return values;
}

static void
test_same (Fixture *f, gconstpointer data)
{
  for (guint i = 0; i < 2; i++) {
    Frame frame = frame_new (i == 1);
    ValleyPicture *host = picture_of_host (f->model, &frame, 7);
    ValleyPicture *device = picture_of_device (f->model, &frame, 7);
    gsize n, n_again;
    g_autofree float *want = encode (f, host, &n);

    g_assert_cmpuint (valley_picture_bytes (device), >, valley_picture_bytes (host)); /* patches */
    g_assert_cmpuint (valley_picture_pts_ns (device), ==, 7);
    assert_same_pixels (f, device, host);
    /* with the patches that painting made, and with others */
    for (guint times = 0; times < 3; times++) {
      g_autofree float *got = encode (f, device, &n_again);

      g_assert_cmpuint (n_again, ==, n);
      assert_same_bits ("encoding", got, want, n);
    }
    valley_picture_unref (host);
    valley_picture_unref (device);
    frame_clear (&frame);
  }
}

/* Its memory may change, or go, when the call returns. */
static void
test_frame_goes (Fixture *f, gconstpointer data)
{
  Frame frame = frame_new (FALSE);
  ValleyPicture *host = picture_of_host (f->model, &frame, 0), *device;

  device = picture_of_device (f->model, &frame, 0);
  check_cuda (cudaMemsetAsync (frame.device, 0, frame.bytes, stream));
  check_cuda (cudaStreamSynchronize (stream));
  frame_clear (&frame);
  assert_same_pixels (f, device, host);
  valley_picture_unref (host);
  valley_picture_unref (device);
}

/* A frame that another stream is still at work on. */
static void
test_ready_event (Fixture *f, gconstpointer data)
{
  for (guint i = 0; i < 8; i++) {
    Frame frame = frame_new (FALSE), last = frame_new (FALSE);
    ValleyPicture *host = picture_of_host (f->model, &frame, 0), *device;
    GError *error = NULL;
    cudaEvent_t event;

    check_cuda (cudaEventCreateWithFlags (&event, cudaEventDisableTiming));
    check_cuda (
        cudaMemcpyAsync (last.device, frame.device, frame.bytes, cudaMemcpyDeviceToDevice, stream));
    check_cuda (cudaEventRecord (event, stream));
    device = try_picture (f->model, &last, 0, event, &error);
    g_assert_no_error (error);
    assert_same_pixels (f, device, host);
    check_cuda (cudaStreamSynchronize (stream));
    check_cuda (cudaEventDestroy (event));
    valley_picture_unref (host);
    valley_picture_unref (device);
    frame_clear (&frame);
    frame_clear (&last);
  }
}

/* Where memory is short pictures have no patch rows yet, then there are none; and that passes. */
static void
test_short_memory (Fixture *f, gconstpointer data)
{
  Frame frame = frame_new (FALSE);
  ValleyPicture *host = picture_of_host (f->model, &frame, 0);
  g_autoptr (GPtrArray) pictures
      = g_ptr_array_new_with_free_func ((GDestroyNotify) valley_picture_unref);
  guint n_without = 0, n_refused = 0;
  g_autofree float *want = NULL;
  gsize available, total, n, n_again;

  g_ptr_array_add (pictures, picture_of_device (f->model, &frame, 0)); /* its tables stay */
  for (gsize spare = 0; spare < 12; spare++) {
    GError *error = NULL;
    ValleyPicture *picture;

    check_cuda (cudaMemGetInfo (&available, &total));
    emu_set_device_bytes (total - available + spare * 4096);
    picture = try_picture (f->model, &frame, 0, NULL, &error);
    emu_set_device_bytes (total);
    if (picture != NULL) {
      g_ptr_array_add (pictures, picture);
      n_without += picture->device->images[VALLEY_EAGLE_IMAGE].patches.memory == NULL;
    } else {
      g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_MEMORY);
      g_clear_error (&error);
      n_refused++;
    }
  }
  g_test_message ("%u without patch rows, %u refused", n_without, n_refused);
  g_assert_cmpuint (n_without, >, 0);
  g_assert_cmpuint (n_refused, >, 0);
  want = encode (f, host, &n);
  for (guint i = 0; i < pictures->len; i++) {
    g_autofree float *got = encode (f, pictures->pdata[i], &n_again);

    assert_same_bits ("encoding", got, want, n);
  }
  valley_picture_unref (host);
  frame_clear (&frame);
}

static gpointer
paint_thread (gpointer data)
{
  gpointer *args = data;

  return picture_of_device (args[0], args[1], 0);
}

/* A frame is painted while the model is at work, and does not wait for it: not for memory either,
 * of which the patches of the last frame would do. */
static void
test_waits_for_nobody (Fixture *f, gconstpointer data)
{
  ValleyBackend *backend = f->model->backend;
  Frame frame = frame_new (FALSE);
  ValleyPicture *first = picture_of_device (f->model, &frame, 0), *next;
  GError *error = NULL;
  ValleyStream *s = backend->ops->stream_new (backend, &error);
  gpointer args[] = { f->model, &frame };
  ValleyTensor rows;
  guint64 painted;

  g_assert_no_error (error);
  for (guint i = 0; i < 4; i++) {
    valley_encode_picture (f->model, s, first, i, NULL, &rows);
    valley_tensor_clear (backend, &rows);
  }
  next = g_thread_join (g_thread_new ("streaming", paint_thread, args));
  painted = emu_kernels_run ();
  g_assert_true (backend->ops->stream_wait (s, &error));
  g_assert_no_error (error);
  g_assert_cmpuint (emu_kernels_run (), >, painted); /* some were still to come */
  backend->ops->stream_free (s);
  valley_picture_unref (first);
  valley_picture_unref (next);
  frame_clear (&frame);
}

/* ---- in a session ---- */

static void
push (Fixture *f, ValleyPicture *picture)
{
  GError *error = NULL;

  g_assert_true (valley_session_push (f->session, picture, FALSE, &error));
  g_assert_no_error (error);
  valley_picture_unref (picture);
}

/* Answers about frames on the device, on the host, and on both in turn. */
static void
test_answers (Fixture *f, gconstpointer data)
{
  Frame frames[3] = { frame_new (FALSE), frame_new (TRUE), frame_new (FALSE) };
  Answer answers[3];

  for (guint way = 0; way < 3; way++) {
    for (guint i = 0; i < 3; i++)
      push (f, way == 0 || (way == 2 && i == 1)
                   ? picture_of_host (f->model, &frames[i], i * FRAME_NS)
                   : picture_of_device (f->model, &frames[i], i * FRAME_NS));
    fixture_ask (f, 4, &answers[way]);
    valley_session_reset (f->session);
    answer_assert_same (&answers[way], &answers[0]);
  }
  for (guint i = 0; i < 3; i++) {
    answer_clear (&answers[i]);
    frame_clear (&frames[i]);
  }
}

static guint64
n_unchanged (Fixture *f)
{
  ValleySessionStats stats;

  valley_session_stats (f->session, &stats);
  return stats.frames_unchanged;
}

/* Equal ones share an encoding; with a threshold so do nearly equal ones. */
static void
test_unchanged (Fixture *f, gconstpointer data)
{
  Frame frame = frame_new (FALSE);
  GError *error = NULL;

  push (f, picture_of_device (f->model, &frame, 0));
  push (f, picture_of_device (f->model, &frame, FRAME_NS));
  g_assert_cmpuint (n_unchanged (f), ==, 1);
  for (guint x = 20; x < 40; x++)
    frame.host[30 * WIDTH + x] ^= 0x80;
  upload (&frame);
  push (f, picture_of_device (f->model, &frame, 2 * FRAME_NS));
  g_assert_cmpuint (n_unchanged (f), ==, 1);
  g_assert_true (valley_session_set_change_threshold (f->session, 0.05, &error));
  frame.host[40 * WIDTH + 20] ^= 0x80;
  upload (&frame);
  push (f, picture_of_device (f->model, &frame, 3 * FRAME_NS));
  g_assert_cmpuint (n_unchanged (f), ==, 2);
  memset (frame.host, 60, frame.bytes);
  upload (&frame);
  push (f, picture_of_device (f->model, &frame, 4 * FRAME_NS));
  g_assert_cmpuint (n_unchanged (f), ==, 2);
  frame_clear (&frame);
}

/* ---- refusals ---- */

static void
expect_refusal (Fixture *f, const ValleyDeviceFrame *frame, const char *words)
{
  ValleyInputSizes sizes = sizes_for (f->model);
  g_autoptr (GError) error = NULL;

  g_assert_null (valley_picture_new_from_device (f->model, 0, &sizes, frame, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT);
  if (strstr (error->message, words) == NULL)
    g_error ("\"%s\" does not say \"%s\"", error->message, words);
}

static void
test_refusals (Fixture *f, gconstpointer data)
{
  Frame frame = frame_new (FALSE);
  ValleyVideo video;
  ValleyRgbImage rgb = frame.rgb;

  describe_nv12 (&video, frame.device);
  rgb.data = frame.device;
  expect_refusal (f, &(ValleyDeviceFrame){ 0 }, "no pixels");
  expect_refusal (f, &(ValleyDeviceFrame){ .video = &video, .rgb = &rgb }, "both");
  rgb.rgb[0] = rgb.rgb[1];
  expect_refusal (f, &(ValleyDeviceFrame){ .rgb = &rgb }, "outside");
  video.matrix[1][1] = NAN;
  expect_refusal (f, &(ValleyDeviceFrame){ .video = &video }, "outside");
  describe_nv12 (&video, frame.device + 1);
  video.bits = 10; /* words, at an odd address */
  expect_refusal (f, &(ValleyDeviceFrame){ .video = &video }, "outside");
  frame_clear (&frame);
}

/* A model on the CPU takes no address of a device's, and no other model its pictures. */
static void
test_other_model (Fixture *f, gconstpointer data)
{
  g_autofree char *dir = golden_dir ("ovis-softmax");
  ValleyModelOptions options = { .device = "cpu", .precision = VALLEY_PRECISION_F32 };
  Frame frame = frame_new (FALSE);
  ValleyPicture *picture = picture_of_device (f->model, &frame, 0);
  g_autoptr (GError) error = NULL;
  ValleyModel *cpu = valley_model_open (dir, &options, &error);
  ValleySession *session;

  g_assert_no_error (error);
  g_assert_false (valley_model_takes_device_frames (cpu, &error));
  g_assert_no_error (error);
  g_assert_true (valley_model_takes_device_frames (f->model, &error));
  g_assert_null (try_picture (cpu, &frame, 0, NULL, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT);
  g_clear_error (&error);
  g_assert_true (valley_model_load (cpu, NULL, &error));
  session = valley_session_new (cpu, NULL, &error);
  g_assert_no_error (error);
  g_assert_false (valley_session_push (session, picture, FALSE, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT);
  valley_session_free (session);
  valley_model_unref (cpu);
  valley_picture_unref (picture);
  frame_clear (&frame);
}

int
main (int argc, char **argv)
{
  const struct {
    const char *name;
    void (*run) (Fixture *f, gconstpointer data);
  } tests[] = { { "same", test_same },
                { "frame-goes", test_frame_goes },
                { "ready-event", test_ready_event },
                { "waits-for-nobody", test_waits_for_nobody },
                { "short-memory", test_short_memory },
                { "answers", test_answers },
                { "unchanged", test_unchanged },
                { "refusals", test_refusals },
                { "other-model", test_other_model } };
  int status;

  g_test_init (&argc, &argv, NULL);
  compare_init ("device-frames");
  check_cuda (cuCtxCreate_v2 (&context, 0, 0));
  check_cuda (cudaStreamCreateWithFlags (&stream, cudaStreamNonBlocking));
  for (guint i = 0; i < G_N_ELEMENTS (tests); i++) {
    g_autofree char *path = g_strconcat ("/device-frames/", tests[i].name, NULL);

    g_test_add (path, Fixture, NULL, setup, tests[i].run, fixture_teardown);
  }
  status = g_test_run ();
  check_cuda (cudaStreamDestroy (stream));
  check_cuda (cuCtxDestroy_v2 (context));
  return status;
}
