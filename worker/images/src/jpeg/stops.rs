//! Places within a scan from which it can be read on, noted when a file is read for the first time. Huffman codes can only be
//! read one after the other, so without them a crop costs all that is stored before it.

/// Of one file at most.
const STOPS_MAX: u32 = 192;
/// Bytes that the ways into an image file take in memory, at most.
pub const STOPS_BYTES_MAX: u64 = STOPS_MAX as u64 * size_of::<Stop>() as u64;

/// What is known of a file that was read to its end: that it is sound, and the way into it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Stops {
    /// Of the file that they are for: one that has another is another.
    file_bytes: usize,
    /// MCUs from one to the next.
    every: u32,
    places: Box<[Stop]>,
}

/// Where an MCU begins.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Stop {
    /// In bits of the scan, its stuffing taken out.
    pub(super) bit: u32,
    /// The first coefficients before it.
    pub(super) last: [i16; 3],
}

impl Stops {
    pub(crate) fn bytes(&self) -> u64 {
        size_of_val(&*self.places) as u64
    }

    /// Without the places, which take memory.
    pub(crate) fn without_places(&self) -> Self {
        Self { file_bytes: self.file_bytes, ..Self::default() }
    }

    pub(super) fn is_of(&self, file: &[u8]) -> bool {
        self.file_bytes == file.len()
    }

    /// The last one before an MCU or at it, and which that is.
    pub(super) fn before(&self, mcu: u32) -> Option<(u32, Stop)> {
        let number = mcu.checked_div(self.every)?;
        Some((number * self.every, *self.places.get(number as usize)?))
    }
}

/// Notes them.
#[derive(Debug, Default)]
pub(super) struct Notes {
    every: u32,
    next: u32,
    places: Vec<Stop>,
}

impl Notes {
    /// For a file of that many MCUs.
    pub(super) fn begin(&mut self, mcus: u32) {
        self.places.clear();
        self.every = mcus.div_ceil(STOPS_MAX).max(1);
        self.next = 0;
    }

    /// None from here on.
    pub(super) fn end(&mut self) {
        self.next = u32::MAX;
    }

    pub(super) fn is_due(&self, mcu: u32) -> bool {
        self.next == mcu
    }

    /// Where one is due. What does not fit into a stop (no photograph has it) ends them.
    pub(super) fn note(&mut self, bit: usize, last: impl Iterator<Item = i32>) {
        let mut stop = Stop { bit: u32::try_from(bit).unwrap_or(u32::MAX), last: [0; 3] };
        let mut fits = stop.bit < u32::MAX;
        for (place, last) in stop.last.iter_mut().zip(last) {
            *place = i16::try_from(last).unwrap_or_default();
            fits &= i32::from(*place) == last;
        }
        if fits {
            self.places.push(stop);
            self.next = self.next.saturating_add(self.every);
        } else {
            self.end();
        }
    }

    pub(super) fn stops(&self, file: &[u8]) -> Stops {
        Stops { file_bytes: file.len(), every: self.every, places: self.places.as_slice().into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_before_is_found_and_what_does_not_fit_ends_them() {
        let mut notes = Notes::default();
        notes.begin(1_000);
        for mcu in 0..1_000 {
            if notes.is_due(mcu) {
                notes.note(mcu as usize * 100, [1, if mcu < 600 { -2 } else { 40_000 }].into_iter());
            }
        }
        let stops = notes.stops(&[0; 7]);
        assert!(stops.is_of(&[0; 7]) && !stops.is_of(&[0; 8]));
        assert!(stops.bytes() < STOPS_BYTES_MAX);
        let stop = |mcu: u32| Stop { bit: mcu * 100, last: [1, -2, 0] };
        for (mcu, expected) in [(0, Some(0)), (5, Some(0)), (6, Some(6)), (599, Some(594)), (600, None), (5_000, None)]
        {
            assert_eq!(stops.before(mcu), expected.map(|at| (at, stop(at))), "{mcu}");
        }
        assert_eq!(stops.without_places().before(5), None);
        notes.begin(u32::MAX - 1);
        assert!(notes.is_due(0));
    }
}
