/* config_connector.h - the part of config.json that config_connector.c reads.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "config.h"
#include "config_reader.h"

/* Needs @config's tower and language model; fills in its connector. */
void valley_config_read_connector (ValleyReader *r, ValleyConfig *config);
