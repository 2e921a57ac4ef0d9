/* context.c - devices, and the context that a backend works in: one of its own, so that a fault
 * in it takes nobody else's with it and a new one can be made; or the caller's.
 *
 * The runtime works in whatever context the thread has, and the driver's few calls for that come
 * through the runtime: nothing is linked with the driver, which a machine may lack.
 * SPDX-License-Identifier: Apache-2.0 */
#include "gpu.h"

#define OLDEST_CAPABILITY 8  /* tensor cores for bf16, asynchronous copies */
#define DRIVER_VERSION 11000 /* of the calls' forms: any driver that runs CUDA 13 has these */
#define SCHEDULE_BLOCKING 4u /* waiting threads sleep: GStreamer has work for the cores */

/* CUresult is 0 for success, and has the runtime's numbers else. */
static struct {
  int (*get_device) (int *device, int index);
  int (*create) (struct CUctx_st **context, unsigned flags, int device);
  int (*destroy) (struct CUctx_st *context);
  int (*push) (struct CUctx_st *context);
  int (*pop) (struct CUctx_st **context);
  int (*get_current) (struct CUctx_st **context);
  int (*device_of) (int *device);
} driver;

static int
find (const char *name, gpointer entry)
{
  enum cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  int error
      = cudaGetDriverEntryPointByVersion (name, entry, DRIVER_VERSION, cudaEnableDefault, &found);

  return error != cudaSuccess                   ? error
         : found == cudaDriverEntryPointSuccess ? cudaSuccess
                                                : cudaErrorNotSupported;
}

static int
find_driver (void)
{
  int error = find ("cuDeviceGet", &driver.get_device);

  if (error == cudaSuccess)
    error = find ("cuCtxCreate", &driver.create);
  if (error == cudaSuccess)
    error = find ("cuCtxDestroy", &driver.destroy);
  if (error == cudaSuccess)
    error = find ("cuCtxPushCurrent", &driver.push);
  if (error == cudaSuccess)
    error = find ("cuCtxPopCurrent", &driver.pop);
  if (error == cudaSuccess)
    error = find ("cuCtxGetCurrent", &driver.get_current);
  if (error == cudaSuccess)
    error = find ("cuCtxGetDevice", &driver.device_of);
  return error;
}

guint
valley_gpu_count (GError **error)
{
  int n = 0, code = cudaGetDeviceCount (&n);

  if (code == cudaSuccess && n > 0)
    return (guint) n;
  cudaGetLastError ();
  if (code == cudaErrorInsufficientDriver)
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_DEVICE,
                 "there is no NVIDIA driver, or one too old for CUDA %d (%s)",
                 CUDART_VERSION / 1000, cudaGetErrorName (code));
  else
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_DEVICE,
                 "the NVIDIA driver offers no device (%s)",
                 cudaGetErrorName (code != cudaSuccess ? code : cudaErrorNoDevice));
  return 0;
}

void
valley_gpu_enter (ValleyGpu *gpu)
{
  driver.push (gpu->context);
}

/* A context that was lost may have refused to become current. */
void
valley_gpu_leave (ValleyGpu *gpu)
{
  struct CUctx_st *context = NULL;

  if (driver.get_current (&context) == cudaSuccess && context == gpu->context)
    driver.pop (&context);
}

/* ---- errors ---- */

gboolean
valley_gpu_check_lost (ValleyGpu *gpu, int error)
{
  int state;

  if (error == cudaSuccess)
    return FALSE;
  cudaGetLastError (); /* what does not stay is taken back */
  state = gpu->copies != NULL ? cudaStreamQuery (gpu->copies) : cudaSuccess;
  if (state != cudaSuccess && state != cudaErrorNotReady) {
    g_atomic_int_compare_and_exchange (&gpu->failure, cudaSuccess, state);
    g_atomic_int_set (&gpu->parent.lost, TRUE);
  }
  return g_atomic_int_get (&gpu->parent.lost);
}

void
valley_gpu_set_error (ValleyGpu *gpu, int code, const char *what, GError **error)
{
  gboolean lost = valley_gpu_check_lost (gpu, code);

  if (code == cudaErrorMemoryAllocation && !lost)
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_MEMORY, "%s: not enough memory on cuda:%u", what,
                 gpu->index);
  else
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_DEVICE, "%s: cuda:%u %s (%s)", what, gpu->index,
                 lost ? "failed, and works again in a model that is opened anew" : "refused",
                 cudaGetErrorName (code));
}

/* ---- making one ---- */

static gboolean
check_capability (ValleyGpu *gpu, GError **error)
{
  int major = 0, minor = 0;

  cudaDeviceGetAttribute (&major, cudaDevAttrComputeCapabilityMajor, (int) gpu->index);
  cudaDeviceGetAttribute (&minor, cudaDevAttrComputeCapabilityMinor, (int) gpu->index);
  if (major >= OLDEST_CAPABILITY)
    return TRUE;
  g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_DEVICE,
               "its compute capability is %d.%d; expected %d.0 or newer", major, minor,
               OLDEST_CAPABILITY);
  return FALSE;
}

/* The caller's context must be of the device that was asked for. */
static gboolean
take_context (ValleyGpu *gpu, gpointer given, GError **error)
{
  int device = -1, code;

  gpu->context = given;
  code = driver.push (gpu->context);
  if (code == cudaSuccess) {
    code = driver.device_of (&device);
    valley_gpu_leave (gpu);
  }
  if (code == cudaSuccess && device == (int) gpu->index)
    return TRUE;
  if (code == cudaSuccess)
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
                 "the context that was given is of cuda:%d", device);
  else
    valley_gpu_set_error (gpu, code, "the context that was given", error);
  return FALSE;
}

static gboolean
make_context (ValleyGpu *gpu, GError **error)
{
  struct CUctx_st *popped;
  int device, code = driver.get_device (&device, (int) gpu->index);

  if (code == cudaSuccess)
    code = driver.create (&gpu->context, SCHEDULE_BLOCKING, device);
  if (code == cudaSuccess) {
    gpu->owns_context = TRUE;
    code = driver.pop (&popped); /* making it made it current */
  }
  if (code != cudaSuccess)
    valley_gpu_set_error (gpu, code, "making a context", error);
  return code == cudaSuccess;
}

gboolean
valley_gpu_context_init (ValleyGpu *gpu, gpointer given, GError **error)
{
  static gsize found; /* 1 + the error: other backends' threads are calling the driver already */
  int code;

  if (g_once_init_enter (&found))
    g_once_init_leave (&found, 1 + (gsize) find_driver ());
  code = (int) (found - 1);
  if (code != cudaSuccess) {
    valley_gpu_set_error (gpu, code, "the driver's calls", error);
    return FALSE;
  }
  return check_capability (gpu, error)
         && (given != NULL ? take_context (gpu, given, error) : make_context (gpu, error));
}

void
valley_gpu_context_clear (ValleyGpu *gpu)
{
  if (gpu->owns_context)
    driver.destroy (gpu->context);
}
