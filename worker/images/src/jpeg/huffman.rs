//! Huffman tables and the bits that they are applied to.

/// Bits that are looked up at once: at quality 90 nearly all codes with their values are shorter.
const LOOK: u32 = 11;

/// Codes, and what each says. Equal where the file's tables are.
#[derive(Clone)]
pub(super) struct Table {
    /// As in the file: how many codes of each length, then the symbols.
    counts: [u8; 16],
    symbols: Vec<u8>,
    /// By the next [`LOOK`] bits.
    look: Box<[Entry; 1 << LOOK]>,
    /// For longer codes: the first code of each length that is too large, its bits at the left of 16, and what to add
    /// to a code to find its symbol.
    limit: [u32; 18],
    offset: [i32; 17],
}

/// A code, and where it fits the value behind it.
#[derive(Clone, Copy, Default)]
pub(super) struct Entry {
    /// The value behind the code, if `is_whole`.
    pub(super) value: i16,
    /// Bits of code and value if `is_whole`, else of the code; 0 where the code is longer than [`LOOK`] or unknown.
    pub(super) bits: u8,
    /// The symbol: how many zeros before the value in the upper half, the value's bits in the lower; and [`WHOLE`].
    pub(super) symbol: u8,
}

impl Table {
    /// From a file's lists. None if they are no code.
    pub(super) fn new(counts: [u8; 16], symbols: &[u8]) -> Option<Self> {
        let mut table = Self {
            counts,
            symbols: symbols.to_vec(),
            look: Box::new([Entry::default(); 1 << LOOK]),
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
        Some(table)
    }

    pub(super) fn is_of(&self, counts: &[u8; 16], symbols: &[u8]) -> bool {
        self.counts == *counts && self.symbols == symbols
    }

    fn enter(&mut self, code: u32, length: u32, symbol: u8) {
        let size = u32::from(symbol & 15);
        let free = LOOK - length;
        for rest in 0..1_u32 << free {
            let entry = if size > 0 && size <= free {
                let value = extend(rest >> (free - size), size) as i16;
                Entry { value, bits: (length + size) as u8, symbol }
            } else {
                // No value follows, or it does not fit.
                Entry { value: 0, bits: length as u8, symbol }
            };
            self.look[(code << free | rest) as usize] = entry;
        }
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

    /// A symbol and the value behind it. None if there is no such code.
    #[inline(always)]
    pub(super) fn next(&mut self, table: &Table) -> Option<(u8, i32)> {
        self.refill();
        let entry = table.look[(self.word >> (64 - LOOK)) as usize];
        let size = u32::from(entry.symbol & 15);
        if entry.value != 0 || size == 0 && entry.bits != 0 {
            self.skip(u32::from(entry.bits));
            return Some((entry.symbol, i32::from(entry.value)));
        }
        let (symbol, length) = match entry.bits {
            0 => table.long((self.word >> 48) as u32)?,
            bits => (entry.symbol, u32::from(bits)),
        };
        self.skip(length);
        let size = u32::from(symbol & 15);
        if size == 0 {
            return Some((symbol, 0));
        }
        let value = extend((self.word >> (64 - size)) as u32, size);
        self.skip(size);
        Some((symbol, value))
    }
}
