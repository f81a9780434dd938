//! What is done to good input.

use crate::dice::Dice;

/// Spoils bytes in one to four ways. `words`: what means something there, put in whole.
pub fn spoil(bytes: &mut Vec<u8>, other: &[u8], words: &[&[u8]], bytes_max: usize, dice: &mut Dice) {
    // Once, mostly: what is spoilt often is refused by the first look.
    let times = 1 + dice.below(4).min(dice.below(4));
    for _ in 0..times {
        spoil_once(bytes, other, words, bytes_max, dice);
    }
    bytes.truncate(bytes_max);
}

fn spoil_once(bytes: &mut Vec<u8>, other: &[u8], words: &[&[u8]], bytes_max: usize, dice: &mut Dice) {
    let len = bytes.len();
    let at = dice.below(len + 1);
    let part = at..(at + 1 + dice.below(32)).min(len).max(at);
    match dice.below(13) {
        0 if len > 0 => bytes[dice.below(len)] ^= 1 << dice.below(8),
        1 if len > 0 => bytes[dice.below(len)] = *dice.pick(&[0, 1, 0x7F, 0x80, 0xFE, 0xFF, b'0', b' ', b'\n']),
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(part)),
        // Put in again where it stands, or elsewhere.
        4 => {
            let block = bytes[part].to_vec();
            let place = dice.below(len + 1);
            bytes.splice(place..place, block);
        }
        // Again and again, up to what is taken, and one more.
        5 if !part.is_empty() => {
            let room = if dice.one_in(50) { bytes_max.saturating_sub(len) + 1 } else { 4096 };
            let times = dice.below(room / part.len() + 2);
            let block = bytes[part].repeat(times);
            bytes.splice(at..at, block);
        }
        // Cut together with another.
        6 if !other.is_empty() => {
            bytes.truncate(at);
            bytes.extend_from_slice(&other[dice.below(other.len())..]);
        }
        7 | 8 if !words.is_empty() => {
            let word = *dice.pick(words);
            let end = if dice.one_in(2) { part.end } else { at };
            bytes.splice(at..end, word.iter().copied());
        }
        // A number as such files have them: big or little, of one to eight bytes.
        9 | 10 => {
            let number = dice.number();
            let width = *dice.pick(&[1, 2, 4, 8]);
            let big = number.to_be_bytes();
            let little = number.to_le_bytes();
            let written = if dice.one_in(2) { &big[8 - width..] } else { &little[..width] };
            let end = (at + width).min(len);
            bytes.splice(at..end, written.iter().copied());
        }
        11 => digits(bytes, dice),
        _ => {
            let count = dice.below(9);
            let noise = dice.bytes(count);
            bytes.splice(part, noise);
        }
    }
}

/// Puts an extreme number in the place of one that is written in digits.
fn digits(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let from = dice.below(bytes.len() + 1);
    let Some(first) = bytes[from..].iter().position(u8::is_ascii_digit).map(|at| at + from) else { return };
    let len = bytes[first..].iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'.').count();
    let number = match dice.below(4) {
        0 => dice.number().to_string(),
        1 => format!("-{}", dice.number()),
        2 => format!("{:e}", dice.float()),
        _ => "9".repeat(1 + dice.below(400)),
    };
    bytes.splice(first..first + len, number.into_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spoilt_stays_within_its_bound_and_differs() {
        let good: Vec<u8> = (0..200).collect();
        let mut changed = 0;
        for index in 0..2_000 {
            let mut bytes = good.clone();
            spoil(&mut bytes, b"other", &[b"word"], 1_000, &mut Dice::of(5, index));
            assert!(bytes.len() <= 1_000);
            changed += u32::from(bytes != good);
        }
        assert!(changed > 1_500, "{changed}");
        // Nothing, too, can be spoilt.
        (0..500).for_each(|index| spoil(&mut Vec::new(), b"", &[], 10, &mut Dice::of(6, index)));
    }
}
