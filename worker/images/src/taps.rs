//! Which source pixels a target pixel is made of, and with what weight: a triangle, as wide as a target pixel where
//! that is wider than a source pixel (Pillow's and torchvision's bilinear filter with antialiasing).

/// Target pixels whose weights are reckoned at a time.
const LANES: usize = 8;
/// All weights of a target pixel together.
const ONE: i32 = 256;

/// A range of a component, in its pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Span {
    pub(crate) start: f64,
    pub(crate) size: f64,
}

/// For each target pixel along an axis, which source pixels it is made of.
#[derive(Debug, Default)]
pub(super) struct Taps {
    /// First source pixel of the component, and how many.
    of: Vec<(usize, usize)>,
    /// So many pairs for each target pixel, of which the first count.
    pairs: Vec<u16>,
    pairs_max: usize,
    sums: Vec<[f32; LANES]>,
    /// What they were made for: those of one plane of chroma are the other's too.
    made_for: Option<(Span, usize, usize)>,
}

/// Of a target pixel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tap<'a> {
    /// First source pixel of the component, and how many.
    pub(super) first: usize,
    pub(super) count: usize,
    /// Their weights in 256ths by twos, the first in the lower byte; 256 together. Of an uneven count, the last one's other half
    /// is for that source pixel too: nothing, or of a single one the second 128.
    pub(super) pairs: &'a [u16],
}

impl Taps {
    /// For that many target pixels, of a component of `limit` pixels.
    pub(super) fn fill(&mut self, span: Span, resolution: usize, limit: usize) {
        let wanted = Some((span, resolution, limit));
        if self.made_for == wanted {
            return;
        }
        self.made_for = wanted;
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            #[target_feature(enable = "avx2")]
            fn fast(taps: &mut Taps, axis: &Axis, resolution: usize) {
                taps.fill_plain(axis, resolution);
            }
            #[expect(unsafe_code, reason = "AVX2")]
            // SAFETY: the processor was just asked for AVX2.
            return unsafe { fast(self, &Axis::new(span, resolution, limit), resolution) };
        }
        self.fill_plain(&Axis::new(span, resolution, limit), resolution);
    }

    /// How many target pixels.
    pub(super) fn len(&self) -> usize {
        self.of.len()
    }

    pub(super) fn get(&self, target: usize) -> Option<Tap<'_>> {
        let (first, count) = *self.of.get(target)?;
        let pairs = self.pairs.get(target * self.pairs_max..)?.get(..count.div_ceil(2))?;
        Some(Tap { first, count, pairs })
    }

    #[inline(always)]
    fn fill_plain(&mut self, axis: &Axis, resolution: usize) {
        self.pairs_max = ((2.0 * axis.reach).ceil() as usize + 1).div_ceil(2);
        self.sums.resize(2 * self.pairs_max, [0.0; LANES]);
        self.pairs.resize(resolution.next_multiple_of(LANES) * self.pairs_max, 0);
        self.of.clear();
        let blocks = self.pairs.chunks_exact_mut(LANES * self.pairs_max);
        for (number, pairs) in blocks.enumerate().take(resolution.div_ceil(LANES)) {
            let places = axis.places(number * LANES);
            let alone = weigh(&places, axis.slope, &mut self.sums, pairs);
            for lane in 0..LANES.min(resolution - number * LANES) {
                let first = (places.from[lane] + axis.origin) as usize;
                self.of.push(match usize::try_from(alone[lane]) {
                    Ok(tap) => {
                        pairs[lane * self.pairs_max] = 0x8080;
                        (first + tap, 1)
                    }
                    Err(_) => (first, places.count[lane] as usize),
                });
            }
        }
    }

    /// Source pixels from the first to the last.
    pub(super) fn reach(&self) -> std::ops::Range<usize> {
        let from = self.of.iter().map(|(first, _)| *first).min().unwrap_or(0);
        let to = self.of.iter().map(|(first, count)| first + count).max().unwrap_or(0);
        from..to
    }
}

/// Where target pixels lie, in source pixels from `origin` on: whole pixels are set aside, so that no rounding depends on
/// them.
struct Axis {
    origin: i32,
    /// Where the first target pixel begins.
    start: f64,
    /// Of one.
    scale: f64,
    /// How far its filter reaches from its centre.
    reach: f64,
    slope: f32,
    /// The last source pixel.
    last: i32,
}

/// Of some target pixels: the first source pixel, how many, and from the centre to that first one's.
struct Places {
    from: [i32; LANES],
    count: [i32; LANES],
    ahead: [f32; LANES],
}

impl Axis {
    fn new(span: Span, resolution: usize, limit: usize) -> Self {
        // Without the call that processors before SSE4.1 need.
        let cut = span.start as i32;
        let origin = cut - i32::from(f64::from(cut) > span.start);
        let scale = span.size / resolution as f64;
        let reach = scale.max(1.0);
        let last = i32::try_from(limit).unwrap_or(i32::MAX).saturating_sub(1).max(0) - origin;
        Self { origin, start: span.start - f64::from(origin), scale, reach, slope: (1.0 / reach) as f32, last }
    }

    #[inline(always)]
    fn places(&self, target: usize) -> Places {
        let mut places = Places { from: [0; LANES], count: [0; LANES], ahead: [0.0; LANES] };
        for lane in 0..LANES {
            let centre = self.start + (f64::from((target + lane) as i32) + 0.5) * self.scale;
            let from = nearest(centre - self.reach).max(-self.origin).min(self.last);
            let to = (nearest(centre + self.reach) - 1).max(from).min(self.last);
            places.from[lane] = from;
            places.count[lane] = to - from + 1;
            places.ahead[lane] = (f64::from(from) + 0.5 - centre) as f32;
        }
        places
    }
}

/// Weights are what the sum so far grows by, rounded: so all together are [`ONE`], and none is off by more than one. Gives
/// for each target pixel which of its source pixels has all the weight, if one has; otherwise something negative.
#[inline(always)]
fn weigh(places: &Places, slope: f32, sums: &mut [[f32; LANES]], pairs: &mut [u16]) -> [i32; LANES] {
    let mut sum = [0.0_f32; LANES];
    for (tap, sums) in sums.iter_mut().enumerate() {
        for (lane, sum) in sum.iter_mut().enumerate() {
            let weight = (1.0 - (places.ahead[lane] + tap as f32).abs() * slope).max(0.0);
            *sum += if (tap as i32) < places.count[lane] { weight } else { 0.0 };
        }
        *sums = sum;
    }
    let factor = sum.map(|sum| ONE as f32 / sum);
    let (pairs_max, mut before) = (sums.len() / 2, [0_i32; LANES]);
    // Of a crop that lies beside its image nothing has weight: the nearest pixel then.
    let mut alone = sum.map(|sum| if sum > 0.0 { -1 } else { 0 });
    for (number, [first, second]) in sums.as_chunks::<2>().0.iter().enumerate() {
        let mut pair = [0_u16; LANES];
        for lane in 0..LANES {
            let between = rounded(first[lane] * factor[lane]);
            let until = rounded(second[lane] * factor[lane]);
            let (one, other) = (between - before[lane], until - between);
            let tap = 2 * number as i32;
            alone[lane] = if one == ONE { tap } else { alone[lane] };
            alone[lane] = if other == ONE { tap + 1 } else { alone[lane] };
            pair[lane] = (one + (other << 8)) as u16;
            before[lane] = until;
        }
        for lane in 0..LANES {
            pairs[lane * pairs_max + number] = pair[lane];
        }
    }
    alone
}

/// The nearest whole number, of at most 2^31. Adding that constant leaves no bits for fractions, and the number's in the last 32:
/// eight at a time, which conversions that know of numbers too large are not.
#[inline(always)]
fn nearest(value: f64) -> i32 {
    (value + 6_755_399_441_055_744.0).to_bits() as u32 as i32
}

/// The same from 0 to 2^22.
#[inline(always)]
fn rounded(value: f32) -> i32 {
    ((value + 8_388_608.0).to_bits() & 0x7F_FFFF) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, target by target.
    fn check(span: Span, resolution: usize, limit: usize) {
        let mut taps = Taps::default();
        taps.fill(span, resolution, limit);
        assert_eq!(taps.len(), resolution);
        let scale = span.size / resolution as f64;
        for target in 0..resolution {
            let Tap { first, count, pairs } = taps.get(target).unwrap();
            assert!(count > 0 && first + count <= limit, "{span:?}, {target}");
            let mut weights: Vec<u32> = pairs.iter().flat_map(|pair| [pair & 255, pair >> 8]).map(u32::from).collect();
            if count == 1 {
                weights = vec![weights[0] + weights[1]];
            }
            assert_eq!(weights.iter().sum::<u32>(), 256, "{span:?}, {target}: {weights:?}");
            assert!(weights[count..].iter().all(|weight| *weight == 0), "{span:?}, {target}: {weights:?}");
            let centre = span.start + (target as f64 + 0.5) * scale;
            let exact = |pixel: usize| (1.0 - (pixel as f64 + 0.5 - centre).abs() / scale.max(1.0)).max(0.0);
            let all: f64 = (0..limit).map(exact).sum();
            for pixel in 0..limit {
                let place = pixel.checked_sub(first).filter(|place| *place < count);
                let weight = place.map_or(0.0, |place| f64::from(weights[place]));
                let wanted = 256.0 * exact(pixel) / all;
                assert!((weight - wanted).abs() < 1.02, "{span:?}, {target}, {pixel}: {weight}, {wanted}");
            }
        }
    }

    #[test]
    fn weights_are_as_defined() {
        for (start, size) in [(0.0, 500.0), (0.0, 20.0), (13.37, 401.3), (455.5, 44.5), (0.25, 1.5), (499.0, 1.0)] {
            for resolution in [1, 7, 32, 224] {
                check(Span { start, size }, resolution, 500);
            }
        }
        check(Span { start: 60_000.25, size: 5_000.5 }, 224, 65_535);
        check(Span { start: 0.0, size: 1.0 }, 32, 1);
        check(Span { start: 3.0, size: 1e-6 }, 9, 5);
    }

    #[test]
    fn beside_an_image_its_nearest_pixel_counts() {
        let mut taps = Taps::default();
        taps.fill(Span { start: 12.0, size: 3.0 }, 4, 10);
        for target in 0..4 {
            assert_eq!(taps.get(target), Some(Tap { first: 9, count: 1, pairs: &[0x8080] }), "{target}");
        }
    }

    #[test]
    fn whole_pixels_change_no_weight() {
        let weights = |start: f64| {
            let mut taps = Taps::default();
            taps.fill(Span { start, size: 123.4 }, 64, 70_000);
            taps.pairs
        };
        assert_eq!(weights(10.75), weights(50_010.75));
    }
}
