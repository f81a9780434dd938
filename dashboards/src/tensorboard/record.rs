//! TFRecord framing: length, its checksum, data, their checksum, all little-endian.
//!
//! The checksum is CRC-32C, masked as in TensorFlow's `crc32c.h`: rotated right by 15 bits, plus a constant, because
//! the checksum of data that holds checksums is a poor one.

use crc::{CRC_32_ISCSI, Crc};

/// CRC-32C, as in iSCSI (RFC 3720).
const CASTAGNOLI: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
const MASK: u32 = 0xa282_ead8;

/// Appends one record.
pub(super) fn append(file: &mut Vec<u8>, data: &[u8]) {
    let length = u64::try_from(data.len()).unwrap_or(0).to_le_bytes();
    file.extend(length);
    file.extend(checksum(&length).to_le_bytes());
    file.extend(data);
    file.extend(checksum(data).to_le_bytes());
}

/// The masked checksum.
pub(super) fn checksum(data: &[u8]) -> u32 {
    CASTAGNOLI.checksum(data).rotate_right(15).wrapping_add(MASK)
}
