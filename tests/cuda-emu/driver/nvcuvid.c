/* nvcuvid.c - libnvcuvid.so.1 without a decoder: GStreamer offers cudaupload and cudadownload only
 * where this library is.  It decodes nothing, and says so.
 * SPDX-License-Identifier: Apache-2.0 */

enum { NOT_SUPPORTED = 801 };

#define UNSUPPORTED(name)                                                                          \
  int name (void);                                                                                 \
  __attribute__ ((visibility ("default"))) int name (void) { return NOT_SUPPORTED; }

UNSUPPORTED (cuvidCtxLockCreate)
UNSUPPORTED (cuvidCtxLockDestroy)
UNSUPPORTED (cuvidCtxLock)
UNSUPPORTED (cuvidCtxUnlock)
UNSUPPORTED (cuvidCreateDecoder)
UNSUPPORTED (cuvidReconfigureDecoder)
UNSUPPORTED (cuvidDestroyDecoder)
UNSUPPORTED (cuvidDecodePicture)
UNSUPPORTED (cuvidCreateVideoParser)
UNSUPPORTED (cuvidParseVideoData)
UNSUPPORTED (cuvidDestroyVideoParser)
UNSUPPORTED (cuvidMapVideoFrame64)
UNSUPPORTED (cuvidUnmapVideoFrame64)
UNSUPPORTED (cuvidMapVideoFrame)
UNSUPPORTED (cuvidUnmapVideoFrame)
UNSUPPORTED (cuvidGetDecoderCaps)
