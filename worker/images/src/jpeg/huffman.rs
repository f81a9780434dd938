//! Huffman tables and the bits that they are applied to.

use super::idct::Block;

/// Bits that are looked up at once: at quality 90 nearly all codes with their values are shorter, and often two fit.
const LOOK: u32 = 11;
/// As many times bits can be looked up before more must be read.
const LOOKS: u32 = 56 / LOOK - 1;
/// A block's last coefficient.
const LAST: usize = 63;
/// The step of the code that says that the rest of a block is 0: beyond any other sum of steps.
pub(super) const END: usize = 128;
/// The step of what is not in the table: beyond the end, too.
const BEYOND: u8 = 192;

/// Codes, and what each says. Equal where the file's tables are.
#[derive(Clone)]
pub(super) struct Table {
    /// As in the file: how many codes of each length, then the symbols.
    counts: [u8; 16],
    symbols: Vec<u8>,
    /// By the next [`LOOK`] bits.
    look: Box<[Entry; 1 << LOOK]>,
    /// Their bits once more: the next look waits for nothing else, and these stay in the fastest cache.
    lengths: Box<[u8; 1 << LOOK]>,
    /// For longer codes: the first code of each length that is too large, its bits at the left of 16, and what to add
    /// to a code to find its symbol.
    limit: [u32; 18],
    offset: [i32; 17],
}

/// What the next bits say: a code and the value behind it, and where they fit a second code and value.
#[derive(Clone, Copy)]
#[repr(align(8))]
struct Entry {
    /// If there is no second, the first again. Of what is not in the table, its symbol.
    values: [i16; 2],
    /// From the coefficient before to the first value's, and on to the second's: 0 if there is none.
    steps: [u8; 2],
    /// Bits of the first code and its value; of its code alone if `bits` is 0; 0 where that is longer than [`LOOK`] or
    /// unknown.
    first_bits: u8,
    /// Bits of all; 0 where the first does not fit.
    bits: u8,
}

impl Entry {
    const UNKNOWN: Self = Self { values: [0; 2], steps: [BEYOND, 0], first_bits: 0, bits: 0 };
}

impl Table {
    /// From a file's lists. None if they are no code.
    pub(super) fn new(counts: [u8; 16], symbols: &[u8]) -> Option<Self> {
        let mut table = Self {
            counts,
            symbols: symbols.to_vec(),
            look: Box::new([Entry::UNKNOWN; 1 << LOOK]),
            lengths: Box::new([0; 1 << LOOK]),
            limit: [u32::MAX; 18],
            offset: [0; 17],
        };
        let (mut code, mut at) = (0_u32, 0_usize);
        for length in 1..=16_u32 {
            let count = usize::from(counts[length as usize - 1]);
            table.offset[length as usize] = at as i32 - code as i32;
            for symbol in symbols.get(at..at + count)? {
                if code >= 1 << length {
                    return None;
                }
                if length <= LOOK {
                    table.enter(code, length, *symbol);
                }
                code += 1;
            }
            at += count;
            table.limit[length as usize] = code << (16 - length);
            code <<= 1;
        }
        table.pair();
        Some(table)
    }

    pub(super) fn is_of(&self, counts: &[u8; 16], symbols: &[u8]) -> bool {
        self.counts == *counts && self.symbols == symbols
    }

    fn enter(&mut self, code: u32, length: u32, symbol: u8) {
        let (zeros, size) = (symbol >> 4, u32::from(symbol & 15));
        let free = LOOK - length;
        for rest in 0..1_u32 << free {
            let known = |value: i16, step: u8, bits: u32| Entry {
                values: [value; 2],
                steps: [step, 0],
                first_bits: bits as u8,
                bits: bits as u8,
            };
            self.look[(code << free | rest) as usize] = match symbol {
                0 => known(0, END as u8, length),
                0xF0 => known(0, 16, length),
                _ if size > 0 && size <= free => {
                    known(extend(rest >> (free - size), size) as i16, zeros + 1, length + size)
                }
                _ => Entry { values: [i16::from(symbol); 2], first_bits: length as u8, ..Entry::UNKNOWN },
            };
        }
    }

    /// Enters what follows a first code and value, where it fits.
    fn pair(&mut self) {
        let alone = self.look.clone();
        for (at, entry) in self.look.iter_mut().enumerate() {
            let next = alone[at << entry.bits & ((1 << LOOK) - 1)];
            let fits = next.bits > 0 && u32::from(entry.bits + next.bits) <= LOOK;
            if fits && entry.bits > 0 && usize::from(entry.steps[0]) != END {
                entry.values[1] = next.values[0];
                entry.steps[1] = next.steps[0];
                entry.bits += next.bits;
            }
        }
        for (length, entry) in self.lengths.iter_mut().zip(&*self.look) {
            *length = entry.bits;
        }
    }

    /// A symbol and the value behind it that are not looked up together, and their bits: 31 at most. None if there is no
    /// such code.
    #[inline(always)]
    fn apart(&self, entry: Entry, word: u64) -> Option<(u8, i16, u32)> {
        let (symbol, length) = match entry.first_bits {
            0 => self.long((word >> 48) as u32)?,
            bits => (entry.values[0] as u8, u32::from(bits)),
        };
        let size = u32::from(symbol & 15);
        let value = if size == 0 { 0 } else { extend((word << length >> (64 - size)) as u32, size) };
        Some((symbol, value as i16, length + size))
    }

    /// The symbol of a long code, and its length. None if there is no such code.
    #[cold]
    fn long(&self, next_16: u32) -> Option<(u8, u32)> {
        let length = (1..=16).find(|length| next_16 < self.limit[*length])?;
        let code = next_16 >> (16 - length);
        let at = usize::try_from(code as i32 + self.offset[length]).ok()?;
        Some((*self.symbols.get(at)?, length as u32))
    }
}

/// A value of `size` bits: those that begin with 0 are negative.
#[inline(always)]
fn extend(bits: u32, size: u32) -> i32 {
    let negative = (bits >> (size - 1)) ^ 1;
    bits as i32 - (((1 << size) - 1) & (negative as i32).wrapping_neg())
}

/// Bits of one restart interval, its stuffing taken out and zeros behind it.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The next bits at the left, `count` of them and more.
    word: u64,
    count: u32,
}

/// Zeros that must follow the bytes.
pub(super) const PADDING: usize = 16;

impl<'a> Bits<'a> {
    /// `bytes` end with [`PADDING`] zeros.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, word: 0, count: 0 }
    }

    /// Reads on from a bit.
    pub(super) fn seek(&mut self, bit: usize) {
        *self = Self { at: bit / 8, ..Self::new(self.bytes) };
        self.refill();
        self.skip((bit % 8) as u32);
    }

    /// The next bit.
    pub(super) fn place(&self) -> usize {
        self.at * 8 - self.count as usize
    }

    /// At least 56 bits are there afterwards; zeros behind the end.
    #[inline(always)]
    fn refill(&mut self) {
        let next =
            self.bytes.get(self.at..).and_then(<[u8]>::first_chunk).map_or(0, |eight| u64::from_be_bytes(*eight));
        self.word |= next >> self.count;
        self.at += ((63 - self.count) >> 3) as usize;
        self.count |= 56;
    }

    #[inline(always)]
    fn skip(&mut self, bits: u32) {
        self.word <<= bits;
        self.count -= bits;
    }

    /// Whether more was read than there is.
    pub(super) fn is_over(&self) -> bool {
        self.at.saturating_sub(self.count as usize / 8) > self.bytes.len().saturating_sub(PADDING)
    }

    /// The difference to the last block's first coefficient. None if there is no such code. Enough bits are there
    /// afterwards to look up [`LOOKS`] times.
    #[inline(always)]
    pub(super) fn difference(&mut self, table: &Table) -> Option<i32> {
        self.refill();
        let entry = table.look[(self.word >> (64 - LOOK)) as usize];
        if entry.bits > 0 {
            self.skip(u32::from(entry.first_bits));
            return Some(i32::from(entry.values[0]));
        }
        let (_, value, bits) = table.apart(entry, self.word)?;
        self.skip(bits);
        self.refill();
        Some(i32::from(value))
    }

    /// The other coefficients, which if so wanted (`KEEP`) are put into a block. Where they end: at the last one, or
    /// [`END`] behind the last that is not 0. None if there is no such code, or they do not end. After
    /// [`Self::difference`].
    #[inline(always)]
    pub(super) fn coefficients<const KEEP: bool>(&mut self, table: &Table, block: &mut Block) -> Option<usize> {
        let mut at = 0;
        loop {
            for _ in 0..LOOKS {
                let next = (self.word >> (64 - LOOK)) as usize;
                let (entry, length) = (table.look[next], table.lengths[next]);
                let first = at + usize::from(entry.steps[0]);
                let second = first + usize::from(entry.steps[1]);
                if KEEP {
                    block.put(first, entry.values[0]);
                    block.put(second, entry.values[1]);
                }
                if second < LAST {
                    self.skip(u32::from(length));
                    at = second;
                    continue;
                }
                if entry.bits > 0 {
                    // The last may be the first of two: then the second is of the next block.
                    let (end, bits) = if first >= LAST { (first, entry.first_bits) } else { (second, entry.bits) };
                    self.skip(u32::from(bits));
                    return (end == LAST || (END..=END + LAST).contains(&end)).then_some(end);
                }
                self.refill();
                let (symbol, value, bits) = table.apart(entry, self.word)?;
                self.skip(bits);
                at += match symbol {
                    0 => return Some(at + END),
                    0xF0 => 16,
                    _ if value == 0 => return None,
                    _ => usize::from(symbol >> 4) + 1,
                };
                if KEEP {
                    block.put(at, value);
                }
                if at >= LAST {
                    return (at == LAST).then_some(at);
                }
                break;
            }
            self.refill();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::header::ZIGZAG;
    use super::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    /// A few short codes, so that often two are looked up together, and all other symbols with codes of 16 bits.
    fn code() -> ([u8; 16], Vec<u8>) {
        let short = [0x01, 0x00, 0x11, 0x02, 0xF0];
        let all = (0..=255_u8).filter(|symbol| symbol & 15 > 0 && !short.contains(symbol));
        let symbols: Vec<u8> = short.into_iter().chain(all).collect();
        let mut counts = [0; 16];
        (counts[1], counts[2], counts[15]) = (2, 3, symbols.len() as u8 - 5);
        (counts, symbols)
    }

    /// Bits, the first at the left.
    #[derive(Default)]
    struct Written {
        bytes: Vec<u8>,
        count: usize,
    }

    impl Written {
        fn put(&mut self, bits: u32, count: u32) {
            for at in (0..count).rev() {
                if self.count.is_multiple_of(8) {
                    self.bytes.push(0);
                }
                self.bytes[self.count / 8] |= ((bits >> at & 1) as u8) << (7 - self.count % 8);
                self.count += 1;
            }
        }

        /// A symbol and the value behind it.
        fn code(&mut self, (counts, symbols): &([u8; 16], Vec<u8>), symbol: u8, value: i32) {
            let (mut code, mut at) = (0, 0);
            for (length, count) in (1..).zip(counts) {
                for _ in 0..*count {
                    if symbols[at] == symbol {
                        self.put(code, length);
                    }
                    (code, at) = (code + 1, at + 1);
                }
                code <<= 1;
            }
            let size = u32::from(symbol & 15);
            let below = if value < 0 { (1 << size) - 1 } else { 0 };
            self.put((value + below) as u32, size);
        }
    }

    #[test]
    fn blocks_are_read_as_they_were_written() {
        let code = code();
        let table = Table::new(code.0, &code.1).unwrap();
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let (mut written, mut blocks) = (Written::default(), Vec::new());
        for case in 0..2_000 {
            let mut block = [0_i16; 64];
            // From nearly none to nearly all, the last of them among these.
            for value in &mut block[1..] {
                if random.next_u32() % 20 <= case % 20 {
                    let largest = [1, 1, 1, 2, 300][random.next_u32() as usize % 5];
                    *value = (random.next_u32() % (2 * largest + 1)) as i16 - largest as i16;
                }
            }
            // A difference of 1 or 0.
            block[0] = (case % 2) as i16;
            written.code(&code, block[0] as u8, i32::from(block[0]));
            let mut zeros = 0;
            let last = block.iter().rposition(|value| *value != 0).unwrap_or(0);
            for &value in block.get(1..=last).unwrap_or_default() {
                if value == 0 {
                    zeros += 1;
                    continue;
                }
                for _ in 0..zeros / 16 {
                    written.code(&code, 0xF0, 0);
                }
                let size = 16 - value.unsigned_abs().leading_zeros() as u8;
                written.code(&code, (zeros % 16) << 4 | size, i32::from(value));
                zeros = 0;
            }
            if last < 63 {
                written.code(&code, 0, 0);
            }
            blocks.push(block);
        }
        let bits_written = written.count;
        written.bytes.extend([0; PADDING]);
        let (mut bits, mut passed) = (Bits::new(&written.bytes), Bits::new(&written.bytes));
        for (case, wanted) in blocks.iter().enumerate() {
            let mut block = Block::BLANK;
            assert_eq!(bits.difference(&table), Some(i32::from(wanted[0])), "{case}");
            block.begin(0.0);
            let end = bits.coefficients::<true>(&table, &mut block).unwrap();
            for (value, place) in wanted.iter().zip(ZIGZAG).skip(1) {
                assert_eq!(block.rest[usize::from(place)], *value, "{case}: {place}");
            }
            assert_eq!(passed.difference(&table), Some(i32::from(wanted[0])), "{case}");
            assert_eq!(passed.coefficients::<false>(&table, &mut block), Some(end), "{case}");
            assert!(!bits.is_over() && !passed.is_over());
        }
        assert_eq!(bits.place(), bits_written);
        // A block that has more than 63.
        let mut written = Written::default();
        for symbol in [0x00, 0xF0, 0xF0, 0xF0, 0xF0] {
            written.code(&code, symbol, 0);
        }
        written.bytes.extend([0; PADDING]);
        let (mut bits, mut block) = (Bits::new(&written.bytes), Block::BLANK);
        assert_eq!(bits.difference(&table), Some(0));
        assert_eq!(bits.coefficients::<true>(&table, &mut block), None);
    }
}
