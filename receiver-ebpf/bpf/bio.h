// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * What a bio says of itself: include/linux/blk_types.h, the same since Linux 5.3.
 */
#ifndef BLAMEIO_BIO_H
#define BLAMEIO_BIO_H

#define REQ_OP_MASK 0xff
#define REQ_OP_READ 0
#define REQ_OP_WRITE 1
/* Made of another one by a device that only passes on. */
#define BIO_CLONED (1 << 1)

#endif
