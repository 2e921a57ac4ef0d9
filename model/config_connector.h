/* config_connector.h - the parts of config.json that config_connector.c and config_compressor.c
 * read.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "config.h"
#include "config_reader.h"

/* Needs @config's tower and language model; fills in its connector. */
void valley_config_read_connector (ValleyReader *r, ValleyConfig *config);
/* Needs the connector and the grids of a tiled picture; fills in the compressors. */
void valley_config_read_compressors (ValleyReader *r, ValleyConfig *config);
