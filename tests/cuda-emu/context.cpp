/* context.cpp - devices and contexts: which is current for a thread, and whose fault it is.
 *
 * Everything that is made belongs to the context that was current then, and only its own streams'
 * work may touch its memory.  A sticky fault is its context's alone; a context that is destroyed
 * takes what is left with it, which is a fault of the program's unless the context had one.
 * SPDX-License-Identifier: Apache-2.0 */
#include "emu_internal.h"

#include "emu_driver.h"

#include <map>
#include <set>
#include <stdlib.h>
#include <vector>

#define MAX_DEVICES 8

typedef std::lock_guard<EmuMutex> Guard;

static int n_devices = -1;
static CUctx_st primaries[MAX_DEVICES];
static std::set<CUcontext> made;
static thread_local std::vector<CUcontext> stack;
CUctx_st *emu_context_running;

/* ---- devices ---- */

/* VALLEY_EMU_DEVICES: how many there are; -1: no driver. */
static cudaError_t
count_devices (int *n)
{
  if (n_devices == -1) {
    const char *text = getenv ("VALLEY_EMU_DEVICES");

    n_devices = text != NULL ? atoi (text) : 2;
    if (n_devices > MAX_DEVICES)
      n_devices = MAX_DEVICES;
  }
  *n = n_devices > 0 ? n_devices : 0;
  return n_devices > 0    ? cudaSuccess
         : n_devices == 0 ? cudaErrorNoDevice
                          : cudaErrorInsufficientDriver;
}

cudaError_t
cudaGetDeviceCount (int *n)
{
  Guard guard (emu_lock);

  return count_devices (n);
}

static bool
is_device (int device)
{
  int n = 0;

  count_devices (&n);
  return device >= 0 && device < n;
}

cudaError_t
cudaSetDevice (int device)
{
  Guard guard (emu_lock);

  if (!is_device (device))
    return cudaErrorInvalidDevice;
  if (!stack.empty ())
    stack.pop_back ();
  primaries[device].device = device;
  stack.push_back (&primaries[device]);
  return primaries[device].sticky;
}

cudaError_t
cudaGetDevice (int *device)
{
  Guard guard (emu_lock);

  *device = emu_context_current ()->device;
  return cudaSuccess;
}

cudaError_t
cudaDeviceGetAttribute (int *value, cudaDeviceAttr attribute, int device)
{
  Guard guard (emu_lock);

  if (!is_device (device))
    return cudaErrorInvalidDevice;
  return (cudaError_t) cuDeviceGetAttribute (value, attribute, device);
}

CUresult
cuDeviceGet (CUdevice *device, int ordinal)
{
  Guard guard (emu_lock);

  *device = ordinal;
  return is_device (ordinal) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

CUresult
cuDeviceGetAttribute (int *value, int attribute, CUdevice device)
{
  switch (attribute) {
  case 14: /* texture alignment */
    *value = 512;
    break;
  case cudaDevAttrMultiProcessorCount:
    *value = 4;
    break;
  case cudaDevAttrComputeCapabilityMajor:
    *value = 9;
    break;
  default:
    *value = 0;
  }
  return CUDA_SUCCESS;
}

/* ---- contexts ---- */

CUctx_st *
emu_context_current (void)
{
  return stack.empty () ? &primaries[0] : stack.back ();
}

static bool
is_context (CUcontext context)
{
  if (made.count (context) != 0)
    return true;
  for (CUctx_st &primary : primaries)
    if (&primary == context)
      return true;
  return false;
}

CUresult
cuCtxCreate_v2 (CUcontext *context, unsigned flags, CUdevice device)
{
  Guard guard (emu_lock);

  if (!is_device (device))
    return CUDA_ERROR_INVALID_DEVICE;
  emu_watch_exit ();
  *context = new CUctx_st{ device, cudaSuccess };
  made.insert (*context);
  stack.push_back (*context);
  return CUDA_SUCCESS;
}

CUresult
cuCtxDestroy_v2 (CUcontext context)
{
  Guard guard (emu_lock);
  std::string left;

  if (made.erase (context) == 0)
    return CUDA_ERROR_INVALID_CONTEXT;
  left = emu_context_left (context);
  if (!left.empty () && context->sticky == cudaSuccess)
    emu_fail (cudaErrorUnknown, "a context was destroyed with %s", left.c_str ());
  emu_context_reset (context);
  if (!stack.empty () && stack.back () == context)
    stack.pop_back ();
  delete context;
  return CUDA_SUCCESS;
}

CUresult
cuCtxPushCurrent_v2 (CUcontext context)
{
  Guard guard (emu_lock);

  if (!is_context (context))
    return CUDA_ERROR_INVALID_CONTEXT;
  stack.push_back (context);
  return CUDA_SUCCESS;
}

CUresult
cuCtxPopCurrent_v2 (CUcontext *context)
{
  if (stack.empty ())
    return CUDA_ERROR_INVALID_CONTEXT;
  if (context != NULL)
    *context = stack.back ();
  stack.pop_back ();
  return CUDA_SUCCESS;
}

CUresult
cuCtxGetCurrent (CUcontext *context)
{
  *context = stack.empty () ? NULL : stack.back ();
  return CUDA_SUCCESS;
}

CUresult
cuCtxGetDevice (CUdevice *device)
{
  if (stack.empty ())
    return CUDA_ERROR_INVALID_CONTEXT;
  *device = stack.back ()->device;
  return CUDA_SUCCESS;
}

std::string
emu_contexts_left (void)
{
  return made.empty () ? "" : std::to_string (made.size ()) + " contexts; ";
}

/* ---- the driver's calls by name, as a program asks for them that is not linked with it ---- */

cudaError_t
cudaGetDriverEntryPointByVersion (const char *name, void **entry, unsigned version,
                                  unsigned long long flags, cudaDriverEntryPointQueryResult *result)
{
  static const std::map<std::string, void *> entries
      = { { "cuDeviceGet", (void *) cuDeviceGet },
          { "cuCtxCreate", (void *) cuCtxCreate_v2 },
          { "cuCtxDestroy", (void *) cuCtxDestroy_v2 },
          { "cuCtxPushCurrent", (void *) cuCtxPushCurrent_v2 },
          { "cuCtxPopCurrent", (void *) cuCtxPopCurrent_v2 },
          { "cuCtxGetCurrent", (void *) cuCtxGetCurrent },
          { "cuCtxGetDevice", (void *) cuCtxGetDevice } };
  auto found = entries.find (name);

  *entry = found != entries.end () ? found->second : NULL;
  *result = *entry != NULL ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}
