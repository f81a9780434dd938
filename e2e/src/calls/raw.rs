//! Messages as the bytes they are, and just enough of protobuf to tell one kind from another.

use bytes::{Buf, BufMut, Bytes};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// Takes and gives messages as bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// What a worker says within its session, a `WorkerMessage`.
pub(super) fn from_worker(message: &[u8]) -> &'static str {
    let Some((number, body)) = fields(message).into_iter().find(|(number, _)| *number > 1) else { return "> other" };
    match number {
        2 => "> register",
        3 => "> heartbeat",
        4 => match fields(body).into_iter().map(|(number, _)| number).find(|number| *number > 1) {
            Some(2) => "> started",
            Some(3) => "> points",
            Some(4) => "> epoch finished",
            Some(5) => "> ended",
            Some(6) => "> log",
            Some(7) => "> listening",
            _ => "> other",
        },
        5 => "> draining",
        6 => "> goodbye",
        _ => "> other",
    }
}

/// What it is told, a `CoordinatorMessage`.
pub(super) fn to_worker(message: &[u8]) -> &'static str {
    match fields(message).first().map(|(number, _)| *number) {
        Some(1) => "< registered",
        Some(2) => "< ack",
        Some(3) => "< grant",
        Some(4) => "< stop",
        Some(5) => "< leave when done",
        _ => "< other",
    }
}

/// Numbers and contents of a message's fields; of those that are numbers themselves the content is left out.
fn fields(mut bytes: &[u8]) -> Vec<(u64, &[u8])> {
    let mut found = Vec::new();
    while let Some(tag) = varint(&mut bytes) {
        let content = match tag & 7 {
            0 => varint(&mut bytes).map(|_| &[][..]),
            1 => take(&mut bytes, 8),
            2 => varint(&mut bytes).and_then(|length| take(&mut bytes, length)),
            5 => take(&mut bytes, 4),
            _ => None,
        };
        let Some(content) = content else { break };
        found.push((tag >> 3, content));
    }
    found
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let length = bytes.iter().take(10).position(|byte| byte & 0x80 == 0)? + 1;
    let digits = take(bytes, length as u64)?;
    Some(digits.iter().rev().fold(0, |value, digit| value << 7 | u64::from(digit & 0x7f)))
}

fn take<'a>(bytes: &mut &'a [u8], length: u64) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
    *bytes = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_the_field_that_is_there() {
        // Sequence 300, then the body.
        let said = |body: &[u8]| from_worker(&[&[0x08, 0xac, 0x02], body].concat());
        assert_eq!(said(&[0x12, 0x02, 0x08, 0x07]), "> register");
        assert_eq!(said(&[0x1a, 0x00]), "> heartbeat");
        // A report: a token of two bytes, then an epoch, or an end.
        assert_eq!(said(&[0x22, 0x08, 0x0a, 0x02, 0x08, 0x07, 0x22, 0x02, 0x08, 0x01]), "> epoch finished");
        assert_eq!(said(&[0x22, 0x08, 0x0a, 0x02, 0x08, 0x07, 0x2a, 0x02, 0x0a, 0x00]), "> ended");
        assert_eq!(said(&[0x2a, 0x00]), "> draining");
        assert_eq!(said(&[]), "> other");
        assert_eq!(to_worker(&[0x12, 0x02, 0x08, 0x07]), "< ack");
        assert_eq!(to_worker(&[0x1a, 0x00]), "< grant");
        // Cut off.
        assert_eq!(to_worker(&[0x1a, 0x05, 0x01]), "< other");
    }
}
